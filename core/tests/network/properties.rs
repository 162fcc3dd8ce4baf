//! What holds in any scene.

use countersign_core::network::evaluate::{End, Evaluator, Question, Side, Unclear, Verdict, evaluate};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    naive::{Naive, Sides},
    random::{ends, policy, scenes},
    table::{end, parse_protocol},
};

type Asked = (Value, Value, &'static str, u16);

fn questions(count: usize) -> impl Strategy<Value = Vec<Asked>> {
    let protocol = select(vec!["TCP", "TCP", "UDP", "SCTP"]);
    let port = prop_oneof![6 => select(vec![80, 81]), 1 => select(vec![0, 1, 82, 65535])];
    vec((ends(), ends(), protocol, port), count)
}

fn question((from, to, protocol, port): &Asked) -> Question {
    let read = |asked: &Value| -> End {
        let pod = || format!("{}/{}", asked["namespace"].as_str().unwrap(), asked["name"].as_str().unwrap());
        end(&asked.as_str().map_or_else(pod, ToOwned::to_owned))
    };
    Question { from: read(from), to: read(to), protocol: parse_protocol(protocol), port: *port }
}

fn in_words(answer: &Result<Verdict, Unclear>) -> Sides {
    let word = |side: &Side| match side {
        Side::NotIsolated => "open",
        Side::Allowed { .. } => "allowed",
        Side::Blocked { .. } => "blocked",
    };
    answer.as_ref().ok().map(|verdict| (word(&verdict.egress), word(&verdict.ingress)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn both_readings_agree(drawn in scenes(8, 0.08), asked in questions(60)) {
        let scene = drawn.scene();
        let evaluator = Evaluator::new(&scene);
        let naive = Naive { namespaces: &drawn.namespaces, pods: &drawn.pods, policies: &drawn.policies };
        for each in &asked {
            let answer = evaluator.ask(&question(each));
            let (from, to, protocol, port) = each;
            prop_assert_eq!(in_words(&answer), naive.ask(from, to, protocol, u64::from(*port)), "{:?}: {:?}", each, answer);
        }
    }

    #[test]
    fn one_more_policy_blocks_nothing_between_isolated_pods(
        drawn in scenes(8, 0.0), mut more in policy(), asked in questions(60)
    ) {
        more["metadata"]["name"] = json!("more");
        let mut with_more = drawn.clone();
        with_more.policies.push(more);
        let (before, after) = (drawn.scene(), with_more.scene());
        let (before, after) = (Evaluator::new(&before), Evaluator::new(&after));
        for question in asked.iter().map(question) {
            if let Some(("allowed", "allowed")) = in_words(&before.ask(&question)) {
                prop_assert_eq!(in_words(&after.ask(&question)), Some(("allowed", "allowed")));
            }
        }
    }

    #[test]
    fn without_its_only_policy_a_scene_is_open(drawn in scenes(1, 0.0), asked in questions(60)) {
        let mut scene = drawn.scene();
        let with: Vec<_> = asked.iter().map(|each| evaluate(&scene, &question(each))).collect();
        scene.policies.clear();
        for (each, with) in asked.iter().zip(with) {
            let without = in_words(&evaluate(&scene, &question(each)));
            prop_assert!(without.is_none() || without == Some(("open", "open")));
            prop_assert!(with.is_err() || without.is_some());
        }
    }

    #[test]
    fn the_order_of_policies_is_irrelevant(
        (drawn, shuffled) in scenes(8, 0.15).prop_flat_map(|drawn| {
            let policies = Just(drawn.policies.clone()).prop_shuffle();
            (Just(drawn), policies)
        }),
        asked in questions(60)
    ) {
        let before = drawn.scene();
        let mut after = drawn;
        after.policies = shuffled;
        let after = after.scene();
        let (before, after) = (Evaluator::new(&before), Evaluator::new(&after));
        for question in asked.iter().map(question) {
            prop_assert_eq!(before.ask(&question), after.ask(&question));
        }
    }
}
