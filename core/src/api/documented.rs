//! Closed enums whose variants can be listed with their documentation, for the reference pages.
//!
//! The words that a reader of the code sees are those that a reader of the manual sees.

/// Defines an enum with `ALL`, `name`, `named` and `explanation`; every variant needs a doc comment.
macro_rules! documented {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[doc = $doc:literal])+ $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        pub enum $name { $($(#[doc = $doc])+ $variant),+ }

        impl $name {
            /// Every variant, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name, as it is written into a status.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            /// The variant of this name.
            pub fn named(name: &str) -> Option<Self> {
                Some(match name {
                    $(stringify!($variant) => Self::$variant,)+
                    _ => return None,
                })
            }

            /// What it means and what to do, as documented.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n"),+)),+ }
            }
        }
    };
}

pub(super) use documented;

#[cfg(test)]
mod tests {
    use crate::api::{ConditionType, Reason};

    #[test]
    fn names_are_those_of_the_variants_and_lead_back_to_them() {
        for reason in Reason::ALL {
            assert_eq!((reason.name(), Reason::named(reason.name())), (&*format!("{reason:?}"), Some(*reason)));
        }
        for kind in ConditionType::ALL {
            assert_eq!((kind.name(), ConditionType::named(kind.name())), (&*format!("{kind:?}"), Some(*kind)));
        }
        assert_eq!(Reason::named("Nothing"), None);
    }
}
