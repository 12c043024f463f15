//! Every flaw that the test kit can make is refused, each for what it is.

use chancery_testkit::{Flaw, TestCa};
use chancery_verifier::Rules;

#[test]
fn lets_in_the_right_one_only() -> Result<(), Box<dyn std::error::Error>> {
    let ca = TestCa::new("example.org");
    let rules = Rules::new().allow("GET", "/customers/{id}", "tools/call:crm/get_customer")?;
    let guard = ca.verifier("crm").guard(rules)?;
    let good = ca.agent("invoice-bot").scope("tools/call:crm/get_customer");
    guard.check(&good, "GET", "/customers/42")?;
    let wrong = Flaw::ALL.map(|flaw| {
        let code =
            guard.check(&good.with(flaw), "GET", "/customers/42").map_or_else(|denial| denial.code(), |_| "allowed");
        (code != flaw.code()).then(|| format!("{flaw:?}: wanted {}, got {code}", flaw.code()))
    });
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
