//! What the configuration does to one request before anything is decided about it, and to its answer before it is
//! delivered: transformations of tier, team and provider, and guards.
//!
//! Answers are stored and shared as the provider gave them; every delivery is treated for the caller that gets it. Where
//! nothing is configured there is no treatment, and no cost but a look.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::draft::Draft;
use super::error::Error;
use super::inbound::Inbound;
use super::reply::Head;
use super::snapshot::Snapshot;
use super::terms::Terms;
use crate::chat::{Chunk, Request, Response};
use crate::guard::answer::AnswerScreen;
use crate::guard::request::{Refused, screened};
use crate::guard::{Hit, Rejected, Tally, Who};
use crate::rank::explain::Explanation;
use crate::rank::plan::{Excluded, Plan};
use crate::rank::reason::Reason;
use crate::telemetry::metric::Metric;
use crate::tenant::Tenant;
use crate::transform::{Body, Changes, Headers, Transform};

/// Members that mean the same in chat and in Messages: what a tier sets of them holds for the caller's own words too.
const SHARED: [&str; 4] = ["max_tokens", "temperature", "top_p", "top_k"];

/// How one request and its answer are treated.
pub struct Treatment {
    rules: Arc<Snapshot>,
    tier: Option<String>,
    team: Option<String>,
    /// Of tier and team, in this order.
    transforms: Vec<Arc<Transform>>,
    /// What goes to a provider, where that is not what goes to the others.
    variants: Vec<(Arc<str>, Request)>,
    /// Providers that are not to see this request, and which guard says so.
    barred: Vec<(Arc<str>, Rejected)>,
    /// What guards found in the request.
    found: Tally,
    /// And in what was delivered so far.
    delivered: Mutex<Tally>,
}

impl Treatment {
    /// Treats a request for its caller. `None` if there is nothing to do with it or with its answer.
    ///
    /// # Errors
    /// A guard refuses it; `found` has the counts all the same.
    pub fn of(
        rules: &Arc<Snapshot>,
        tenant: &Tenant,
        request: &mut Request,
        found: &mut Tally,
    ) -> Result<Option<Self>, Error> {
        if !rules.treats {
            return Ok(None);
        }
        let terms = Terms::of(rules, tenant)?;
        let (tier, team) = terms.names();
        let transforms = &rules.settings.transforms;
        let of_tier = tier.and_then(|tier| transforms.tiers.get(tier));
        let of_team = team.and_then(|team| transforms.teams.get(team));
        let transforms: Vec<Arc<Transform>> = of_tier.into_iter().chain(of_team).cloned().collect();
        for transform in &transforms {
            change(request, &transform.request.body)?;
        }
        let (guards, who) = (&rules.settings.guards, Who { tier, team });
        let result = match guards.of_requests(who) {
            Some(shield) => screened(&shield, request, found),
            None => Ok(None),
        };
        match result {
            Ok(None) => {}
            Ok(Some(passed)) => *request = passed,
            Err(Refused::Rejected(rejected)) => return Err(Error::Guarded { rejected, answer: false }),
            Err(Refused::Invalid(invalid)) => return Err(invalid.into()),
        }
        let (mut variants, mut barred) = (Vec::new(), Vec::new());
        for name in &rules.guarded_providers {
            let Some(shield) = guards.of_requests_to(name, who) else { continue };
            match screened(&shield, request, found) {
                Ok(None) => {}
                Ok(Some(variant)) => variants.push((name.clone(), variant)),
                Err(Refused::Rejected(rejected)) => barred.push((name.clone(), rejected)),
                Err(Refused::Invalid(invalid)) => return Err(invalid.into()),
            }
        }
        Ok(Some(Self {
            rules: rules.clone(),
            tier: tier.map(str::to_owned),
            team: team.map(str::to_owned),
            transforms,
            variants,
            barred,
            found: found.clone(),
            delivered: Mutex::default(),
        }))
    }

    /// What goes to one provider instead of the request.
    pub fn variants(&self) -> &[(Arc<str>, Request)] {
        &self.variants
    }

    /// Whether this provider is not to see the request.
    pub fn bars(&self, provider: &str) -> bool {
        self.barred.iter().any(|(name, _)| **name == *provider)
    }

    /// Leaves out of a plan the providers that are not to see the request.
    pub fn bar(&self, plan: &mut Plan) {
        for (name, rejected) in &self.barred {
            let candidates = std::mem::take(&mut plan.candidates);
            let (barred, left): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|candidate| candidate.target.provider.name == *name);
            plan.candidates = left;
            let reason = Reason::Guard(rejected.guard.clone());
            plan.excluded.extend(
                barred.into_iter().map(|candidate| Excluded { target: candidate.target, reason: reason.clone() }),
            );
        }
    }

    /// Changes to the headers of requests to whoever answers.
    pub fn request_headers(&self) -> Vec<&Headers> {
        let headers = self.transforms.iter().map(|transform| &transform.request.headers);
        headers.filter(|headers| !headers.is_none()).collect()
    }

    /// What sets this request apart from an identical one of somebody else's: how providers see it. The body is not part
    /// of it, it speaks for itself. Empty if nothing does.
    pub fn mark(&self) -> String {
        let mut mark = String::new();
        for headers in self.request_headers() {
            // Into a hash only: values may be secrets.
            mark.push_str(&format!("{:?}", headers.remove));
            for (name, value) in &headers.set {
                mark.push_str(&format!("{name}={:?};", value.as_bytes()));
            }
        }
        for (name, variant) in &self.variants {
            mark.push_str(&format!("{name}:{};", blake3::hash(variant.body())));
        }
        self.barred.iter().for_each(|(name, _)| mark.push_str(&format!("-{name};")));
        mark
    }

    /// The treatment of an answer from one provider.
    pub fn of_answer(self: &Arc<Self>, provider: &str) -> Dressing {
        let who = Who { tier: self.tier.as_deref(), team: self.team.as_deref() };
        let shield = self.rules.settings.guards.of_answers(provider, who);
        let own = self.rules.settings.provider(provider).and_then(|provider| provider.transform.clone());
        let transforms = own.into_iter().chain(self.transforms.iter().cloned());
        Dressing {
            treatment: self.clone(),
            screen: shield.map(AnswerScreen::new),
            transforms: transforms.filter(|transform| !transform.response.is_none()).collect(),
        }
    }

    /// All that guards found so far, in both directions.
    pub fn tally(&self) -> Tally {
        let mut tally = self.found.clone();
        tally.merge(&self.delivered.lock());
        tally
    }
}

/// Treats a request that came in, and notes in its row what guards found.
///
/// # Errors
/// A guard refuses it.
pub fn treat(rules: &Arc<Snapshot>, inbound: &mut Inbound, draft: &Draft) -> Result<(), Error> {
    if !rules.treats {
        return Ok(());
    }
    let mut found = Tally::default();
    let result = Treatment::of(rules, &inbound.tenant, &mut inbound.request, &mut found);
    count(&found, "request");
    draft.change(|record| record.guards = found.to_string());
    inbound.treatment = result?.map(Arc::new);
    Ok(())
}

/// A decision, and what guards would do: `POST /v1/route`.
#[derive(Serialize)]
pub struct Foreseen {
    #[serde(flatten)]
    pub explanation: Explanation,
    /// Left out where no guards are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guards: Option<Vec<Hit>>,
}

/// What [`treat`] would do, and what it would count. A request that would be refused is decided about as it is.
///
/// # Errors
/// Only those that are not a guard's.
pub fn foresee(rules: &Arc<Snapshot>, inbound: &mut Inbound) -> Result<Option<Vec<Hit>>, Error> {
    let mut found = Tally::default();
    match Treatment::of(rules, &inbound.tenant, &mut inbound.request, &mut found) {
        Ok(treatment) => inbound.treatment = treatment.map(Arc::new),
        Err(Error::Guarded { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok((!rules.settings.guards.is_empty()).then(|| found.hits().to_vec()))
}

/// Counts what guards found.
fn count(found: &Tally, direction: &'static str) {
    for hit in found.hits() {
        let guard = hit.guard.to_string();
        metrics::counter!(Metric::GuardHits.name(), "guard" => guard, "action" => hit.action.as_str(), "direction" => direction)
            .increment(u64::from(hit.count));
    }
}

/// Applies a tier's or team's changes to what the router decides with, and to the caller's own words where they mean the
/// same.
fn change(request: &mut Request, body: &Body) -> Result<(), Error> {
    // Vectors have members of their own.
    if body.is_none() || request.embed.is_some() {
        return Ok(());
    }
    let mut members: crate::transform::Members =
        request.members().filter_map(|(name, value)| Some((name.into(), raw(value)?))).collect();
    body.apply(&mut members);
    *request = request.with_all_members(&members)?;
    if let Some(native) = &mut request.native
        && let Some(changed) = body.only(|name| SHARED.contains(&name)).applied(&native.body)
    {
        native.body = changed.into();
    }
    Ok(())
}

fn raw(value: &str) -> Option<Box<serde_json::value::RawValue>> {
    serde_json::value::RawValue::from_string(value.to_owned()).ok()
}

/// An answer on its way to one caller.
pub struct Dressing {
    treatment: Arc<Treatment>,
    screen: Option<AnswerScreen>,
    transforms: Vec<Arc<Transform>>,
}

impl Dressing {
    /// Notes in the head what its headers say, before there is a body.
    pub fn head(&self, head: &mut Head) {
        head.changes = self.transforms.clone();
        head.guards = self.treatment.tally().to_string();
    }

    /// # Errors
    /// A guard holds the answer back.
    pub fn whole(&mut self, response: &mut Response) -> Result<(), Rejected> {
        if let Some(screen) = &mut self.screen {
            let result = screen.whole(response);
            self.note();
            result?;
        }
        self.changes().for_each(|changes| changes.body.apply(&mut response.extra));
        Ok(())
    }

    /// Turns one chunk into those that may pass.
    ///
    /// # Errors
    /// A guard ends the stream.
    pub fn chunk(&mut self, chunk: &Chunk, passed: &mut Vec<Chunk>) -> Result<(), Rejected> {
        match &mut self.screen {
            Some(screen) => {
                let result = screen.chunk(chunk, passed);
                self.note();
                result?;
            }
            None => passed.push(chunk.clone()),
        }
        for chunk in passed {
            for transform in &self.transforms {
                transform.response.body.apply(&mut chunk.extra);
            }
        }
        Ok(())
    }

    fn changes(&self) -> impl Iterator<Item = &Changes> {
        self.transforms.iter().map(|transform| &transform.response)
    }

    /// Counts what was found since the last time.
    fn note(&mut self) {
        let Some(screen) = &mut self.screen else { return };
        if screen.tally.is_empty() {
            return;
        }
        let found = std::mem::take(&mut screen.tally);
        count(&found, "response");
        self.treatment.delivered.lock().merge(&found);
    }

    /// Nothing is to be changed or looked for.
    pub fn is_none(&self) -> bool {
        self.screen.is_none() && self.transforms.iter().all(|transform| transform.response.body.is_none())
    }

    /// What is known of the whole request, for its row.
    pub fn tally(&self) -> Tally {
        self.treatment.tally()
    }
}
