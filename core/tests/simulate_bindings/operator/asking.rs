//! Requests to Vault: the breaker, the health that it asks for, and one login for each account.

use countersign_core::{
    api::Reason,
    connection::{
        breaker::{Outcome as Seen, Permit},
        token::{TokenDue, TokenLife},
    },
    fault::{Class, Failure},
    next::jittered,
};

use super::{Crashed, Operator, Surroundings, monotonic, seconds, unavailable};
use crate::{
    chance::Fault,
    history::{ADDRESS, Event, TOKEN_LIFE, VaultAnswer, VaultCall, VaultRequest, VaultState},
    model::Model,
    mutants::Mutant,
    tally::Effects,
};

/// At most one login in this time after a token was lost or a login refused.
const LOGIN_INTERVAL: i64 = 30;
/// How long a new token may be unknown to a standby.
const REPLICATION: i64 = 2;
/// How often a server that serves us is asked for its health.
const HEALTH_INTERVAL: u64 = 60;

/// A login of one account.
#[derive(Default)]
pub struct Session {
    held: Option<Token>,
    obtained: Option<i64>,
    refused: Option<(i64, Failure)>,
    confirmed: Option<(u64, i64)>,
}

/// A token.
#[derive(Clone)]
struct Token {
    number: u64,
    born: i64,
    life: TokenLife,
}

impl Session {
    /// As if nobody had logged in.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Why a request gave nothing that can be used.
pub struct CallFailed {
    /// The server knows no such token, or the token may not do this.
    pub is_forbidden: bool,
    /// In our own words.
    pub failure: Failure,
}

impl From<Failure> for CallFailed {
    fn from(failure: Failure) -> Self {
        Self { is_forbidden: false, failure }
    }
}

impl Operator {
    /// Sends with the account's token. A refusal costs one look at the token and, if the server has forgotten it, one
    /// login and one repeat; never more.
    pub(super) fn send(
        &mut self,
        slot: usize,
        call: &VaultCall,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<VaultAnswer, CallFailed>, Crashed> {
        let used = match self.token(slot, model, around)? {
            Ok(used) => used,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let started = model.now;
        match self.ask(slot, call, Some(&used), model, around)? {
            Err(failed) if failed.is_forbidden => match self.replaced(slot, &used, started, model, around)? {
                Err(failure) => Ok(Err(failure.into())),
                Ok(None) => Ok(Err(failed)),
                Ok(Some(next)) => self.ask(slot, call, Some(&next), model, around),
            },
            result => Ok(result),
        }
    }

    fn session(&mut self, model: &Model) -> &mut Session {
        self.sessions.entry(model.account.unwrap_or_default()).or_default()
    }

    /// A token that can be used now.
    fn token(
        &mut self,
        slot: usize,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<Token, Failure>, Crashed> {
        let now = monotonic(model.now);
        if let Some(held) = self.session(model).held.clone() {
            match held.life.due(now) {
                TokenDue::Use | TokenDue::Renew => return Ok(Ok(held)),
                // If that does not work, the old one serves on.
                TokenDue::Replace => return Ok(Ok(self.log_in(slot, model, around)?.unwrap_or(held))),
                TokenDue::Ended => {}
            }
        }
        self.log_in(slot, model, around)
    }

    /// After a 403: `None` if the server knows that token, so the refusal stands.
    fn replaced(
        &mut self,
        slot: usize,
        used: &Token,
        started: i64,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<Option<Token>, Failure>, Crashed> {
        let session = self.session(model);
        if let Some(held) = session.held.as_ref().filter(|held| held.number != used.number) {
            return Ok(Ok(Some(held.clone())));
        }
        if session.confirmed.is_some_and(|(number, at)| number == used.number && at >= started) {
            return Ok(Ok(None));
        }
        match self.ask(slot, &VaultCall::LookupSelf, Some(used), model, around)? {
            Ok(_) => {
                self.session(model).confirmed = Some((used.number, model.now));
                return Ok(Ok(None));
            }
            Err(failed) if failed.is_forbidden => {}
            Err(failed) => return Ok(Err(failed.failure)),
        }
        if model.now - used.born < REPLICATION {
            // A standby may not know a token of this age yet; the repeat tells.
            return Ok(Ok(Some(used.clone())));
        }
        let since = self.session(model).obtained.map(|at| model.now - at);
        if let Some(wait) = since.map(|since| LOGIN_INTERVAL - since).filter(|wait| *wait >= 0) {
            let words = "the server forgot our token within 30 s of the login; the next login waits";
            return Ok(Err(Failure::new(Class::Throttled, Reason::Throttled, words).retry_after(monotonic(wait))));
        }
        self.session(model).held = None;
        Ok(self.log_in(slot, model, around)?.map(Some))
    }

    fn log_in(
        &mut self,
        slot: usize,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<Token, Failure>, Crashed> {
        let now = model.now;
        if let Some((at, failure)) = &self.session(model).refused
            && let Some(wait) = Some(LOGIN_INTERVAL - (now - at)).filter(|wait| *wait > 0)
        {
            return Ok(Err(failure.clone().retry_after(monotonic(wait))));
        }
        if !model.api_up {
            // The account's own token comes from there.
            return Ok(Err(unavailable(Reason::ApiServerUnavailable, "the API server does not answer")));
        }
        match self.ask(slot, &VaultCall::Login, None, model, around)? {
            Ok(VaultAnswer::Token(number)) => {
                let life = TokenLife::new(monotonic(now), monotonic(TOKEN_LIFE), false);
                let token = Token { number, born: now, life };
                let session = self.session(model);
                (session.held, session.obtained, session.refused) = (Some(token.clone()), Some(now), None);
                Ok(Ok(token))
            }
            Ok(_) => Ok(Err(unavailable(Reason::UpstreamInvalid, "the answer could not be understood"))),
            Err(failed) => {
                if failed.failure.class == Class::Denied {
                    self.session(model).refused = Some((now, failed.failure.clone()));
                }
                Ok(Err(failed.failure))
            }
        }
    }

    /// One request, past the breaker.
    fn ask(
        &mut self,
        slot: usize,
        call: &VaultCall,
        token: Option<&Token>,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<VaultAnswer, CallFailed>, Crashed> {
        match self.breaker.ask(monotonic(model.now)) {
            Permit::Refuse(cause) => return Ok(Err(cause.into())),
            Permit::Probe => {
                if let Err(failure) = self.examine(model) {
                    return Ok(Err(failure.into()));
                }
            }
            Permit::Call => {}
        }
        let fault = self.fault(slot, effect_of(call), model, around)?;
        let alive = token.is_none_or(|token| model.is_alive(token.number, token.born));
        let (answer, was_deleted) = self.answer(call, alive, fault, model, around);
        let request = VaultRequest {
            sent_to: ADDRESS.to_owned(),
            token: token.map(|token| token.number),
            slot: Some(slot),
            call: call.clone(),
            answer: answer.clone(),
        };
        if around.mutant == Mutant::RedirectsFollowed
            && let VaultAnswer::Redirect(elsewhere) = &answer
        {
            let followed =
                VaultRequest { sent_to: elsewhere.clone(), answer: VaultAnswer::Unreached, ..request.clone() };
            model.push(self.actor(), Event::Vault(request));
            model.push(self.actor(), Event::Vault(followed));
        } else {
            model.push(self.actor(), Event::Vault(request));
        }
        let result = judge(call, answer, was_deleted);
        let seen = match &result {
            Err(failed) if failed.failure.reason == Reason::BackendFailing => {
                Seen::Stumbled { path: format!("{call:?}") }
            }
            // It was JSON: the server answers, be it nonsense.
            Err(failed) if failed.failure.reason == Reason::UpstreamInvalid => Seen::Answered,
            Err(failed) => Seen::from(Err(&failed.failure)),
            Ok(_) => Seen::Answered,
        };
        self.breaker.record(monotonic(model.now), seen);
        self.after(fault, model)?;
        Ok(result)
    }

    fn answer(
        &self,
        call: &VaultCall,
        alive: bool,
        fault: Fault,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> (VaultAnswer, bool) {
        let is_read = !matches!(call, VaultCall::Health | VaultCall::Login | VaultCall::LookupSelf);
        let is_metadata = matches!(call, VaultCall::Metadata { .. });
        let honest = match model.vault {
            VaultState::Cut => (VaultAnswer::Unreached, false),
            VaultState::Redirects => (VaultAnswer::Redirect("https://elsewhere.example:8200".to_owned()), false),
            VaultState::Sealed => (VaultAnswer::Status(503), false),
            _ if fault == Fault::Refused => {
                let kinds = [VaultAnswer::Unreached, VaultAnswer::Status(if is_read { 500 } else { 503 })];
                let kind = around.chance.below(2);
                (kinds[usize::try_from(kind).unwrap()].clone(), false)
            }
            VaultState::RefusesLogins if *call == VaultCall::Login => (VaultAnswer::Status(403), false),
            _ if !alive => (VaultAnswer::Status(403), false),
            VaultState::Answers(status) if is_read => (VaultAnswer::Status(status), false),
            VaultState::Babbles if is_read => (VaultAnswer::Nonsense, false),
            _ if is_metadata && model.metadata_closed => (VaultAnswer::Status(403), false),
            _ if *call == VaultCall::Login => (VaultAnswer::Token(model.fresh()), false),
            _ => model.server.answer(call, model.now),
        };
        let is_lost = fault == Fault::Lost && honest.0 != VaultAnswer::Unreached;
        if is_lost { (VaultAnswer::Lost, false) } else { honest }
    }

    /// Whether the server was found away, or may be: then somebody has to look.
    pub fn watches_health(&self, model: &Model) -> bool {
        let is_away = matches!(model.vault, VaultState::Sealed | VaultState::Cut | VaultState::Redirects);
        !self.connected
            || is_away
            || self.breaker.cause().is_some()
            || self.unhealthy > 0
            || model.connection.ready_since.is_none()
    }

    /// What the controller of the connection does: it asks for the server's health, and tells everybody by the
    /// connection's status when that changes. Returns whether it did.
    pub fn look_at_health(&mut self, model: &mut Model) -> bool {
        self.connected = true;
        let now = monotonic(model.now);
        let result = match self.breaker.ask(now) {
            Permit::Refuse(cause) => Err(cause),
            Permit::Call | Permit::Probe => self.examine(model),
        };
        let wish = result.as_ref().err().and_then(|failure| failure.retry_after);
        self.unhealthy = if result.is_ok() { 0 } else { self.unhealthy.saturating_add(1) };
        let wait = match self.unhealthy {
            0 => HEALTH_INTERVAL,
            1 => 5,
            2 => 10,
            3 => 20,
            4 => 40,
            _ => 60,
        };
        let own = jittered(std::time::Duration::from_secs(wait), "c0");
        self.next_health = model.now + seconds(wish.unwrap_or(own)).max(1);
        let is_ready = result.is_ok();
        if !model.api_up || is_ready == model.connection.ready_since.is_some() {
            return false;
        }
        model.connection.ready_since = is_ready.then_some(model.now);
        true
    }

    fn examine(&mut self, model: &mut Model) -> Result<(), Failure> {
        let answer = match model.vault {
            VaultState::Cut => VaultAnswer::Unreached,
            VaultState::Sealed => VaultAnswer::Status(503),
            VaultState::Redirects => VaultAnswer::Redirect("https://elsewhere.example:8200".to_owned()),
            VaultState::Up | VaultState::Answers(_) | VaultState::RefusesLogins | VaultState::Babbles => {
                VaultAnswer::Fine
            }
        };
        let request = VaultRequest {
            sent_to: ADDRESS.to_owned(),
            token: None,
            slot: None,
            call: VaultCall::Health,
            answer: answer.clone(),
        };
        model.push(self.actor(), Event::Vault(request));
        let result = judge(&VaultCall::Health, answer, false).map(drop).map_err(|failed| failed.failure);
        match &result {
            Ok(()) => self.breaker.probed(monotonic(model.now)),
            Err(failure) => self.breaker.record(monotonic(model.now), Seen::from(Err(failure))),
        }
        result
    }
}

fn effect_of(call: &VaultCall) -> Effects {
    match call {
        VaultCall::Login => Effects::Login,
        VaultCall::Health | VaultCall::LookupSelf => Effects::LookUp,
        VaultCall::Mount(_) => Effects::ReadMount,
        VaultCall::Metadata { .. } => Effects::ReadMetadata,
        VaultCall::Values { .. } => Effects::ReadValues,
        VaultCall::Unversioned { .. } => Effects::ReadUnversioned,
    }
}

/// What an answer is in our own words.
fn judge(call: &VaultCall, answer: VaultAnswer, was_deleted: bool) -> Result<VaultAnswer, CallFailed> {
    let failed = |class, reason, words: &str| {
        let is_forbidden = class == Class::Denied && answer == VaultAnswer::Status(403);
        Err(CallFailed { is_forbidden, failure: Failure::new(class, reason, words) })
    };
    let is_read = !matches!(call, VaultCall::Health | VaultCall::Login | VaultCall::LookupSelf);
    match &answer {
        VaultAnswer::Status(403) if *call == VaultCall::Login => {
            failed(Class::Denied, Reason::LoginFailed, "the login is refused")
        }
        VaultAnswer::Status(403) => failed(Class::Denied, Reason::AccessDenied, "the server knows us and refuses"),
        VaultAnswer::Status(404) if matches!(call, VaultCall::Mount(_)) => {
            failed(Class::Waiting, Reason::MountMissing, "there is no such mount, or the account may not know of it")
        }
        VaultAnswer::Status(404) if was_deleted => {
            failed(Class::Waiting, Reason::RemoteDeleted, "the version was deleted or destroyed; the Secret is kept")
        }
        VaultAnswer::Status(404) => {
            failed(Class::Waiting, Reason::RemoteMissing, "there is nothing at this path, or nobody may know of it")
        }
        VaultAnswer::Status(429) => failed(Class::Throttled, Reason::Throttled, "the server limits our rate"),
        VaultAnswer::Status(500) if is_read => {
            failed(Class::Unavailable, Reason::BackendFailing, "the server answers with an error of its own here")
        }
        VaultAnswer::Status(503) => failed(Class::Unavailable, Reason::VaultSealed, "the server is sealed"),
        VaultAnswer::Nonsense => {
            failed(Class::Unavailable, Reason::UpstreamInvalid, "the answer could not be understood")
        }
        VaultAnswer::Redirect(_) => failed(Class::Unavailable, Reason::StandbyRedirect, "a standby redirects us"),
        VaultAnswer::Status(_) | VaultAnswer::Lost | VaultAnswer::Unreached => {
            failed(Class::Unavailable, Reason::VaultUnavailable, "no complete answer")
        }
        VaultAnswer::Fine
        | VaultAnswer::Token(_)
        | VaultAnswer::Mount { .. }
        | VaultAnswer::Metadata { .. }
        | VaultAnswer::Values { .. } => Ok(answer),
    }
}
