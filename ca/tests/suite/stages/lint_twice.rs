use chancery_ca::Planned;

fn twice(planned: Planned) {
    let _ = planned.lint();
    let _ = planned.lint();
}

fn main() {}
