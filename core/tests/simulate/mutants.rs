//! Broken shells, each with the invariant that must catch it.

use crate::checker::Invariant;

mutants! {
    /// How the shell of identities is broken.
    Mutant:
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
    /// What a status that could not be written would have remembered is forgotten.
    UnwrittenIsForgotten => StormGuard,
    /// The Secret does not keep when a request was answered.
    RequestTimeForgotten => OneForcedTry,
    /// The owner reference is left out.
    OwnerForgotten => I17,
    /// It is not looked whether an older identity names the same Secret.
    ClaimIgnored => GatesFirst,
}

mutants! {
    /// How the shell of a domain that signs by itself is broken.
    RootMutant:
    /// A Secret that cannot be read makes room for a new root.
    WhenUnreadable => N7,
    /// A Secret that is gone is taken for one that never was.
    WhenLost => N7,
    /// The status is believed as the watch tells it, and written without the version that was read.
    OfStaleStatus => N7,
}
