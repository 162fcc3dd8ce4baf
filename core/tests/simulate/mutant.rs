//! How broken shells are listed: each with the invariant that must catch it.

macro_rules! mutants {
    ($(#[doc = $about:literal])+ $mutant:ident: $($(#[doc = $doc:literal])+ $name:ident => $caught:ident),+ $(,)?) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $mutant {
            /// Not at all.
            None,
            $($(#[doc = $doc])+ $name),+
        }

        impl $mutant {
            /// Every way, and the invariant that catches it.
            pub const ALL: &'static [(Self, Invariant)] = &[$((Self::$name, Invariant::$caught)),+];
        }
    };
}
