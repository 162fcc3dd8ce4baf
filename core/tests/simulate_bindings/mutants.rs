//! Broken shells, each with the invariant that must catch it.

use crate::checker::Invariant;

mutants! {
    /// How the shell of bindings is broken.
    Mutant:
    /// A source that cannot be read is taken as it was read last: the others are written without it.
    FailedSourceAsBefore => I06,
    /// Of two fields one is of the version before.
    VersionsMixed => I06,
    /// A changed grant is not seen.
    GrantNotSeen => I09,
    /// A redirect is followed to another address.
    RedirectsFollowed => I09,
    /// Every refresh logs in anew.
    LoginPerRefresh => I14,
    /// A 404 deletes the target.
    NotFoundDeletes => I05,
    /// A 403 empties the target.
    ForbiddenEmpties => I07,
    /// The Secret is written without the version that was read.
    NoVersion => I10,
    /// The status is written in every pass.
    StatusEachPass => I15,
    /// Writes go on when the Lease is lost.
    WritesAfterLostLease => I16,
    /// The owner reference is left out.
    OwnerForgotten => I17,
    /// It is not looked whether an older binding names the same Secret.
    ClaimIgnored => GatesFirst,
    /// The server's own text is repeated.
    ForeignErrorText => I23,
    /// A value is quoted in a message.
    ValueInMessage => I23,
    /// It is forgotten which versions are stored, so an older one is believed at once.
    LaggingBelieved => WentBack,
    /// A version that was deleted is taken for one without values.
    DeletedIsEmpty => DeletedIsKept,
    /// What was due before the start is read at the start.
    EverythingAtStart => NotDue,
    /// A refresh that is due is put off for ever.
    NeverDue => Due,
    /// A request that was answered is forgotten.
    RequestForgotten => OneForcedTry,
    /// The newest values are taken for those of the version that the spec names.
    PinIgnored => Pinned,
    /// The Secret is written with another type than the spec says.
    OtherType => Type,
    /// A Secret of another owner is taken for ours.
    OtherOwnerTaken => I08,
    /// A Secret that is to be written is deleted first.
    DeletedBeforeWrite => I05,
    /// Ready is told before there is a Secret.
    ReadyTooEarly => I26,
    /// An answer that cannot be understood ends the process.
    PanicsAtNonsense => I29,
}
