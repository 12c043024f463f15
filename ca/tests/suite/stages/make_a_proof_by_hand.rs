use chancery_ca::{Linted, Signed, SubjectKey};

fn key(spki: Box<[u8]>) -> SubjectKey {
    SubjectKey { spki }
}

fn linted(tbs: Vec<u8>) -> Linted {
    Linted { tbs }
}

fn signed(der: std::sync::Arc<[u8]>) -> Signed {
    Signed { der }
}

fn main() {}
