//! Broken shells, each with the invariant that must catch it.

use crate::checker::Invariant;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident => $caught:ident),+ $(,)?) => {
        /// How the operator is broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            /// Not at all.
            None,
            $($(#[doc = $doc])+ $name),+
        }

        impl Mutant {
            /// Every way, and the invariant that catches it.
            pub const ALL: &'static [(Self, Invariant)] = &[$((Self::$name, Invariant::$caught)),+];
        }
    };
}

mutants! {
    /// Certificate first, key in a second write.
    TwoWrites => I01,
    /// The issuer's answer is stored as it comes.
    AnswerNotVerified => I02,
    /// A 404 of the issuer deletes the target.
    NotFoundDeletes => I05,
    /// A 403 of the issuer deletes the target.
    ForbiddenIsGone => I07,
    /// The Secret is written without the version that was read.
    NoVersion => I10,
    /// Every signature logs in anew.
    LoginPerSignature => I14,
    /// The status is written in every pass.
    StatusEachPass => I15,
    /// Writes go on when the Lease is lost.
    WritesAfterLostLease => I16,
    /// The server's own text is repeated.
    ForeignErrorText => I23,
    /// A redirect is followed to another address.
    RedirectsFollowed => I09,
    /// An outage counts as a failure of the object.
    OutageCounts => OutageIsNoAttempt,
}
