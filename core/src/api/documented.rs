//! Closed enums whose variants can be listed with their documentation, for the reference pages.
//!
//! The words that a reader of the code sees are those that a reader of the manual sees.

/// Defines an enum with `ALL` and `explanation`; every variant needs a doc comment.
macro_rules! documented {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[doc = $doc:literal])+ $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        pub enum $name { $($(#[doc = $doc])+ $variant),+ }

        impl $name {
            /// Every variant, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// What it means and what to do, as documented.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n"),+)),+ }
            }
        }
    };
}

pub(super) use documented;
