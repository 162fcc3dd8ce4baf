//! Patterns by table, attacks by table, and the one property that tenancy rests on.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Paths that somebody might ask for to get out of `secret/shop/**`, and none of which may be sent.
pub const ATTACKS: [&str; 60] = [
    "",
    "/",
    "//",
    ".",
    "..",
    "/secret/shop/a",
    "secret/shop/",
    "secret/shop//a",
    "secret//shop/a",
    "secret/shop/../payments/a",
    "secret/shop/./a",
    "secret/shop/..",
    "secret/../secret/payments/a",
    "../secret/shop/a",
    "./secret/shop/a",
    "secret/shop/a/../../payments/a",
    "secret/shop/%2e%2e/payments/a",
    "secret/shop/%2E%2E/payments/a",
    "secret/shop/%2e%2e%2fpayments/a",
    "secret/shop%2fa",
    "secret/shop%2Fa",
    "secret%2fshop/a",
    "secret/shop/a%00",
    "secret/shop/a%0a",
    "secret/shop/a%252e",
    "secret/shop\\a",
    "secret\\shop\\a",
    "secret/shop/..\\payments",
    "secret/shop/a\0",
    "secret/shop/a\0/../payments",
    "secret/shop/a\n",
    "secret/shop/a\r\nX-Vault-Token: x",
    "secret/shop/a\t",
    "secret/shop/a b",
    " secret/shop/a",
    "secret/shop/a ",
    "secret/shop/a?list=true",
    "secret/shop?list=true",
    "secret/shop/a?version=1",
    "secret/shop/a#x",
    "secret/shop/a;x",
    "secret/shop/a&b",
    "secret/shop/a=b",
    "secret/shop/a@b",
    "secret/shop/a:b",
    "secret/shop/a+b",
    "secret/shop/a*",
    "secret/shop/*",
    "secret/shop/**",
    "secret/{namespace}/a",
    "secret/ѕhop/a",
    "secret/shop/а",
    "secret/ｓhop/a",
    "secret/shop/\u{2024}\u{2024}/payments",
    "secret/shop\u{2215}a",
    "secret/shop/a\u{200b}",
    "sys/mounts",
    "SYS/mounts",
    "auth/token/create",
    "cubbyhole/shop/a",
];

fn grant(namespaces: &[&str], as_: GrantedIdentity, role: Option<&str>, paths: &[&str]) -> ConnectionGrant {
    ConnectionGrant {
        namespaces: NamespaceSelector {
            names: Some(namespaces.iter().map(ToString::to_string).collect()),
            match_labels: None,
            all: None,
        },
        as_,
        role: role.map(str::to_owned),
        paths: paths.iter().map(ToString::to_string).collect(),
        secret_types: Vec::new(),
        all: None,
    }
}

fn tenant(namespaces: &[&str], paths: &[&str]) -> Vec<Grant> {
    parse(&[grant(namespaces, GrantedIdentity::ServiceAccount, Some("tenant"), paths)]).unwrap()
}

fn ask(grants: &[Grant], namespace: &str, path: &str, others: &[&str]) -> Result<Permit, Reason> {
    let (labels, path) = (BTreeMap::new(), path.parse().unwrap());
    let asked = Asked { namespace, labels: &labels, account: Some("app"), path: &path, secret_type: "Opaque" };
    let others: Vec<String> = others.iter().map(ToString::to_string).collect();
    authorize(grants, &asked, &others).map_err(|failure| failure.reason)
}

#[test]
fn no_attack_is_a_path() {
    let distinct: BTreeSet<&str> = ATTACKS.into_iter().collect();
    assert_eq!(distinct.len(), ATTACKS.len());
    for attack in ATTACKS {
        assert!(attack.parse::<VaultPath>().is_err(), "{attack:?}");
    }
}

#[test]
fn patterns_cover_what_they_say() {
    let fill = Fill { namespace: "shop", account: Some("order") };
    let table = [
        ("secret/{namespace}/**", "secret/shop/a", true),
        ("secret/{namespace}/**", "secret/shop/a/b/c", true),
        ("secret/{namespace}/**", "secret/shop", false),
        ("secret/{namespace}/**", "secret/payments/a", false),
        ("secret/{namespace}/**", "secret/shop-eu/a", false),
        ("secret/{namespace}/{serviceAccount}", "secret/shop/order", true),
        ("secret/{namespace}/{serviceAccount}", "secret/shop/orders", false),
        ("secret/shared/*", "secret/shared/a", true),
        ("secret/shared/*", "secret/shared/a/b", false),
        ("secret/shared/a*", "secret/shared/a", false),
        ("secret/shared/a*", "secret/shared/ab", true),
        ("secret/shared/*-*", "secret/shared/a-b", true),
        ("secret/shared/*-*", "secret/shared/a-", false),
        ("secret/shared/*-*", "secret/shared/-b", false),
        ("secret/{namespace}_*", "secret/shop_db", true),
        ("secret/{namespace}_*", "secret/shop_", false),
        ("secret/**", "secret/a", true),
        ("secret/**", "kv/a", false),
        ("secret/a", "secret/a", true),
        ("secret/a", "secret/A", false),
    ];
    for (pattern, path, covered) in table {
        let parsed: PathPattern = pattern.parse().unwrap();
        assert_eq!(parsed.matches(&path.parse().unwrap(), &fill), covered, "{pattern} {path}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_its_cause() {
    use PatternProblem::{Character, DoubleStar, Mount, Placeholder, Shape, Stars};
    let deep = ["a"; 17].join("/");
    let table = [
        ("", Shape),
        ("secret", Shape),
        ("secret/", Shape),
        ("/secret/a", Shape),
        ("secret//a", Shape),
        (deep.as_str(), Shape),
        ("secret/../a", Character),
        ("secret/./a", Character),
        ("secret/a b", Character),
        ("secret/a%2f", Character),
        ("secret/{name}/a", Placeholder),
        ("secret/{namespace", Placeholder),
        ("secret/**/a", DoubleStar),
        ("secret/a**", DoubleStar),
        ("secret/*a*b*", Stars),
        ("*/a", Mount),
        ("{namespace}/a", Mount),
        ("sys/a", Mount),
        ("**", Shape),
    ];
    for (pattern, problem) in table {
        assert_eq!(pattern.parse::<PathPattern>(), Err(problem), "{pattern:?}");
    }
}

#[test]
fn a_whole_mount_for_the_operator_is_spelled() {
    let mut wide = grant(&["shop"], GrantedIdentity::Operator, None, &["secret/a", "secret/**"]);
    assert_eq!(parse(&[wide.clone()]), Err((0, PatternProblem::WholeMount)));
    wide.all = Some(true);
    assert!(parse(&[wide]).is_ok());
    assert!(parse(&[grant(&["shop"], GrantedIdentity::ServiceAccount, Some("r"), &["secret/**"])]).is_ok());
    assert!(parse(&[grant(&["shop"], GrantedIdentity::Operator, None, &["secret/shared/**"])]).is_ok());
}

#[test]
fn the_first_grant_that_fits_decides() {
    let mut second = grant(&["shop"], GrantedIdentity::Operator, None, &["secret/shared/*"]);
    second.secret_types = vec!["kubernetes.io/tls".to_owned()];
    let first = grant(&["shop"], GrantedIdentity::ServiceAccount, Some("{namespace}-{serviceAccount}"), &["secret/**"]);
    let grants = parse(&[second, first]).unwrap();
    let role: Segment = "shop-app".parse().unwrap();
    let own = Permit::ServiceAccount { account: "app".to_owned(), role };
    assert_eq!(ask(&grants, "shop", "secret/shared/a", &[]), Ok(own));
    assert_eq!(ask(&grants, "shop", "kv/a", &[]), Err(Reason::PathNotAllowed));
    assert_eq!(ask(&grants, "payments", "secret/a", &[]), Err(Reason::PathNotAllowed));
    let path = "secret/shared/a".parse().unwrap();
    let labels = BTreeMap::new();
    let asked =
        Asked { namespace: "shop", labels: &labels, account: None, path: &path, secret_type: "kubernetes.io/tls" };
    assert_eq!(authorize(&grants, &asked, &[]), Ok(Permit::Operator));
    let asked = Asked { secret_type: "x/y", ..asked };
    assert_eq!(authorize(&grants, &asked, &[]).unwrap_err().reason, Reason::TypeNotAllowed);
    let asked = Asked { secret_type: "Opaque", ..asked };
    assert_eq!(authorize(&grants, &asked, &[]).unwrap_err().reason, Reason::InvalidSpec);
}

#[test]
fn the_longest_namespace_wins() {
    let grants = tenant(&["shop", "shop-eu"], &["secret/{namespace}-*"]);
    assert!(ask(&grants, "shop", "secret/shop-db", &["shop-eu"]).is_ok());
    assert_eq!(ask(&grants, "shop", "secret/shop-eu-db", &["shop-eu"]), Err(Reason::PathAmbiguous));
    assert!(ask(&grants, "shop-eu", "secret/shop-eu-db", &[]).is_ok());
    assert!(ask(&grants, "shop", "secret/shop-europe", &["shop-eu"]).is_ok());
    assert!(ask(&grants, "shop", "secret/shop-eu-db", &[]).is_ok());
}

proptest! {
    #[test]
    fn no_namespace_reads_what_is_anothers(
        namespaces in proptest::collection::btree_set("[ab]{1,2}(-[ab]{1,2}){0,2}", 1..6),
        path in "s/[ab]{1,2}([-_][ab]{1,2}){0,3}(/[ab]{1,2})?",
        pattern in proptest::sample::select(vec!["s/{namespace}-*", "s/{namespace}", "s/{namespace}/**", "s/{namespace}_*"]),
    ) {
        let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
        let grants = tenant(&names, &[pattern]);
        let readers: Vec<&&str> = names.iter().filter(|one| ask(&grants, one, &path, &names).is_ok()).collect();
        prop_assert!(readers.len() <= 1, "{readers:?} read {path}");
    }
}
