//! Which names may be asked for: the checker's own reading of identity.md §2.

use super::scene::{HOUR, Run};
use crate::{
    checker::{Invariant, check},
    history::{AllowRule, Text},
};

/// Whether an identity of namespace `pay` with Service `api` may ask for `name`, given one allow rule.
fn may_ask(name: &'static str, patterns: &[&'static str], ranges: &[&'static str], is_address: bool) -> bool {
    let texts = |all: &[&'static str]| all.iter().map(|one| Text::from(*one)).collect();
    let rule = AllowRule {
        namespaces: vec!["pay".into()],
        dns_names: texts(patterns),
        ip_ranges: texts(ranges),
        max_ttl: None,
    };
    let mut run = Run::new();
    run.change_domain(|spec| spec.allow.push(rule));
    run.edit(|spec| {
        let list = if is_address { &mut spec.ip_addresses } else { &mut spec.dns_names };
        list.push(name.into());
    });
    // The specs before these are still within the grace; only what was asked for decides.
    run.login().issue();
    let violations = check(&run.history);
    let refused = violations.iter().any(|violation| violation.invariant == Invariant::GatesFirst);
    assert_eq!(refused, violations.iter().any(|one| one.invariant == Invariant::I02), "{violations:?}");
    !refused
}

#[test]
fn dns_names() {
    let cases = [
        ("a.api.pay.svc", &[][..], true),
        ("*.api.pay.svc", &[], true),
        ("a.api.pay.svc.cluster.local", &[], true),
        ("a.b.api.pay.svc", &[], false),
        ("a.web.pay.svc", &[], false),
        ("web.pay.svc", &["*.pay.svc"], true),
        ("web.shop.svc", &["*.shop.svc"], false),
        ("web.shop.svc.cluster.local", &["*.cluster.local"], false),
        ("WEB.SHOP.SVC", &["*.shop.svc"], false),
        ("x.cluster.local", &["*.cluster.local"], false),
        ("api.pay.internal", &[], false),
        ("api.pay.internal", &["*.pay.internal"], true),
        ("a.b.pay.internal", &["*.pay.internal"], true),
        ("pay.internal", &["*.pay.internal"], false),
        ("pay.internal", &["pay.internal"], true),
        ("api.pay.internal", &["pay.internal"], false),
        ("apipay.internal", &["*.pay.internal"], false),
        ("*.pay.internal", &["*.pay.internal"], true),
        ("*.a.pay.internal", &["*.pay.internal"], true),
        ("*.internal", &["*.internal", "*.pay.internal"], false),
        ("*", &["*"], false),
        ("kubernetes.default", &["kubernetes.default"], false),
        ("kubernetes.default.svc", &["kubernetes.default.svc"], false),
        ("localhost", &["localhost"], false),
        ("localhost.pay.internal", &["*.pay.internal"], false),
        ("аpp.pay.internal", &["*.pay.internal"], false),
    ];
    for (name, patterns, expected) in cases {
        assert_eq!(may_ask(name, patterns, &[], false), expected, "{name} with {patterns:?}");
    }
}

#[test]
fn ip_addresses() {
    let cases = [
        ("10.1.2.3", &[][..], false),
        ("10.1.2.3", &["10.0.0.0/8"], true),
        ("11.1.2.3", &["10.0.0.0/8"], false),
        ("10.1.2.3", &["10.1.2.3/32"], true),
        ("10.1.2.3", &["0.0.0.0/0"], true),
        ("10.1.2.3", &["fd00::/8"], false),
        ("fd00::1", &["fd00::/8"], true),
        ("fe80::1", &["::/0"], false),
        ("127.0.0.1", &["0.0.0.0/0"], false),
        ("169.254.1.1", &["0.0.0.0/0"], false),
        ("224.0.0.1", &["0.0.0.0/0"], false),
        ("0.0.0.0", &["0.0.0.0/0"], false),
        ("ten", &["0.0.0.0/0"], false),
    ];
    for (address, ranges, expected) in cases {
        assert_eq!(may_ask(address, &[], ranges, true), expected, "{address} in {ranges:?}");
    }
}

#[test]
fn lifetimes() {
    let may_last = |ttl: i64, max_ttl: Option<i64>| {
        let mut run = Run::new();
        let rule = AllowRule { namespaces: vec!["pay".into()], dns_names: Vec::new(), ip_ranges: Vec::new(), max_ttl };
        run.change_domain(|spec| spec.allow.push(rule)).wait(90);
        run.edit(|spec| spec.ttl = Some(ttl)).wait(90).login().read();
        run.sign();
        !check(&run.history).iter().any(|one| one.invariant == Invariant::GatesFirst)
    };
    assert!(may_last(HOUR, None));
    assert!(may_last(24 * HOUR, None));
    assert!(!may_last(25 * HOUR, None));
    assert!(may_last(100 * HOUR, Some(100 * HOUR)));
    assert!(!may_last(101 * HOUR, Some(100 * HOUR)));
}

#[test]
fn short_names_only_where_the_domain_gives_them() {
    let has_short_names = |given: bool, carried: bool| {
        let mut run = Run::new();
        run.change_domain(|spec| spec.short_names = given).wait(90).login().read();
        let leaf = run.sign_for(|mut leaf| {
            if carried {
                leaf.dns_names.extend(["api".into(), "api.pay".into()]);
            }
            crate::history::SignAnswer::Honest(leaf.into())
        });
        run.store(&leaf);
        !check(&run.history).iter().any(|one| one.invariant == Invariant::I02)
    };
    assert!(has_short_names(false, false));
    assert!(!has_short_names(false, true));
    assert!(has_short_names(true, true));
    assert!(!has_short_names(true, false));
}
