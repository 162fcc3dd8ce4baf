//! How patterns of grants are read.

use super::scene::{Run, plain_spec};
use crate::{
    checker::{Invariant, check},
    history::*,
};

#[test]
fn patterns_cover_what_they_say() {
    let cases = [
        ("kv/pay/db", "kv/pay/db", true),
        ("kv/pay/db", "kv/pay/db/x", false),
        ("kv/pay/**", "kv/pay/db/x", true),
        ("kv/pay/**", "kv/pay", false),
        ("kv/**/db", "kv/pay/db", false),
        ("kv/*/db", "kv/pay/db", true),
        ("kv/*/db", "kv/a/b/db", false),
        ("kv/pay_*", "kv/pay_", false),
        ("kv/pay_*", "kv/pay_1", true),
        ("kv/*b*d", "kv/abcd", true),
        ("kv/*b*d", "kv/bcd", false),
        ("kv/**", "kx/pay", false),
    ];
    for (pattern, joined, wanted) in cases {
        let (mount, path) = joined.split_once('/').unwrap();
        let mut spec = plain_spec();
        (spec.sources[0].mount, spec.sources[0].path) = (mount.into(), path.into());
        let mut run = Run::with(spec);
        run.change(WorldChange::Granted(vec![pattern.into()])).wait(GRACE + 1);
        let call = VaultCall::Metadata { mount: mount.into(), path: path.into() };
        run.call(Some(0), call, VaultAnswer::Status(404));
        let broken = check(&run.history).iter().any(|violation| violation.invariant == Invariant::I09);
        assert_eq!(broken, !wanted, "{pattern} over {joined}");
    }
}
