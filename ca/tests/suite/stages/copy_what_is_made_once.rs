use chancery_ca::{CrlPlan, Linted, Planned, Signed, SignedCrl};

fn copy<T: Clone>() {}

fn main() {
    copy::<Planned>();
    copy::<Linted>();
    copy::<Signed>();
    copy::<CrlPlan>();
    copy::<SignedCrl>();
}
