//! Label selectors, and an index that finds the selectors that match.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::unclear::Problem;

/// The label by which a namespace can be named: the server sets it, and nobody can change it.
const NAME_OF_NAMESPACE: &str = "kubernetes.io/metadata.name";

/// Labels as a selector sees them.
#[derive(Debug)]
pub(super) struct Labels<'a> {
    written: &'a BTreeMap<String, String>,
    pinned: Option<&'a str>,
}

impl<'a> Labels<'a> {
    pub(super) fn of_pod(written: &'a BTreeMap<String, String>) -> Self {
        Self { written, pinned: None }
    }

    pub(super) fn of_namespace(name: &'a str, written: &'a BTreeMap<String, String>) -> Self {
        Self { written, pinned: Some(name) }
    }

    fn value(&self, key: &str) -> Option<&str> {
        match self.pinned {
            Some(name) if key == NAME_OF_NAMESPACE => Some(name),
            _ => self.written.get(key).map(String::as_str),
        }
    }
}

/// A parsed selector; without terms it matches everything.
#[derive(Debug, Default)]
pub(super) struct Selector<'a>(Vec<Term<'a>>);

#[derive(Debug)]
enum Term<'a> {
    Is(&'a str, &'a str),
    In(&'a str, &'a [String]),
    NotIn(&'a str, &'a [String]),
    Exists(&'a str),
    Lacks(&'a str),
}

impl<'a> Selector<'a> {
    pub(super) fn parse(selector: &'a LabelSelector) -> Result<Self, Problem> {
        let labels = selector.match_labels.iter().flatten();
        let equalities = labels.map(|(key, value)| {
            must_be_key(key)?;
            must_be_value(value)?;
            Ok(Term::Is(key, value))
        });
        let requirements = selector.match_expressions.iter().flatten().map(Term::parse);
        equalities.chain(requirements).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn matches(&self, labels: &Labels<'_>) -> bool {
        self.0.iter().all(|term| term.matches(labels))
    }
}

impl<'a> Term<'a> {
    fn parse(requirement: &'a LabelSelectorRequirement) -> Result<Self, Problem> {
        let key = &requirement.key;
        let values = requirement.values.as_deref().unwrap_or_default();
        must_be_key(key)?;
        values.iter().try_for_each(|value| must_be_value(value))?;
        match (requirement.operator.as_str(), values) {
            ("In" | "NotIn", []) => Err(Problem::NoValues(key.clone())),
            ("In", values) => Ok(Self::In(key, values)),
            ("NotIn", values) => Ok(Self::NotIn(key, values)),
            ("Exists", []) => Ok(Self::Exists(key)),
            ("DoesNotExist", []) => Ok(Self::Lacks(key)),
            ("Exists" | "DoesNotExist", _) => Err(Problem::NeedlessValues(key.clone())),
            (operator, _) => Err(Problem::Operator(operator.to_owned())),
        }
    }

    fn matches(&self, labels: &Labels<'_>) -> bool {
        match self {
            Self::Is(key, value) => labels.value(key) == Some(value),
            Self::In(key, values) => labels.value(key).is_some_and(|found| values.iter().any(|value| value == found)),
            Self::NotIn(key, values) => labels.value(key).is_none_or(|found| values.iter().all(|value| value != found)),
            Self::Exists(key) => labels.value(key).is_some(),
            Self::Lacks(key) => labels.value(key).is_none(),
        }
    }
}

/// Many selectors, of which a pod meets only those that share a label with it: each is found by its rarest equality.
#[derive(Debug)]
pub(super) struct Index<'s> {
    by_label: HashMap<(&'s str, &'s str), Vec<(usize, &'s Selector<'s>)>>,
    others: Vec<(usize, &'s Selector<'s>)>,
}

impl<'s> Index<'s> {
    pub(super) fn new(selectors: impl Iterator<Item = &'s Selector<'s>> + Clone) -> Self {
        let mut uses: HashMap<(&str, &str), usize> = HashMap::new();
        for label in selectors.clone().flat_map(Selector::equalities) {
            *uses.entry(label).or_default() += 1;
        }
        let mut index = Self { by_label: HashMap::new(), others: Vec::new() };
        for (position, selector) in selectors.enumerate() {
            match selector.equalities().min_by_key(|label| uses.get(label)) {
                Some(rarest) => index.by_label.entry(rarest).or_default().push((position, selector)),
                None => index.others.push((position, selector)),
            }
        }
        index
    }

    /// The positions of the selectors that match, ascending. Only for labels of pods, where nothing is pinned.
    pub(super) fn selecting(&self, labels: &Labels<'_>) -> Vec<usize> {
        let shared =
            labels.written.iter().filter_map(|(key, value)| self.by_label.get(&(key.as_str(), value.as_str())));
        let candidates = shared.flatten().chain(&self.others);
        let mut found: Vec<usize> =
            candidates.filter(|(_, selector)| selector.matches(labels)).map(|(position, _)| *position).collect();
        found.sort_unstable();
        found
    }
}

impl<'a> Selector<'a> {
    fn equalities(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(|term| match term {
            Term::Is(key, value) => Some((*key, *value)),
            Term::In(..) | Term::NotIn(..) | Term::Exists(_) | Term::Lacks(_) => None,
        })
    }
}

fn must_be_key(key: &str) -> Result<(), Problem> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_key = !name.is_empty() && is_name(name) && prefix.is_none_or(is_subdomain);
    if is_key { Ok(()) } else { Err(Problem::LabelKey(key.to_owned())) }
}

fn must_be_value(value: &str) -> Result<(), Problem> {
    if is_name(value) { Ok(()) } else { Err(Problem::LabelValue(value.to_owned())) }
}

/// Also of the empty text, which is a value.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let outer = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().copied().all(inner) && outer(bytes.first()) && outer(bytes.last())
}

fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        !bytes.is_empty() && bytes.iter().all(inner) && bytes.first() != Some(&b'-') && bytes.last() != Some(&b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
