//! The expander `grpc`, asked while the controller runs.
//!
//! Owns its flags, and the way of a question out of a round and of its answer into the policies. A program that cannot be
//! asked chooses nothing: then every pool may grow, which the log says once.

use crate::error::CommandError;
use clap::Args;
use clock::Clock;
use clouds::calls::CallLimits;
use clouds::expander::{Expander as Client, Offer};
use clouds::external::{Certificates, Server};
use controller::RoundHook;
use jiff::SignedDuration;
use model::{Cluster, Expander, ExpanderAnswer, ExpanderQuestion, Policies, PoolId};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long an answer holds: the program may have changed its mind, or chosen nothing.
const HOLDS: SignedDuration = SignedDuration::from_secs(30);
/// How long all pools may grow after the program could not be asked.
const HOLDS_UNASKED: SignedDuration = SignedDuration::from_secs(10);
/// Time that the program is given; Cluster Autoscaler's.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "A program that chooses (--expander=grpc)")]
pub(crate) struct OutsideExpanderFlags {
    /// Where the program is asked, by TLS
    #[arg(long, value_name = "HOST:PORT")]
    grpc_expander_url: Option<String>,
    /// Who signed the program's certificate, in PEM
    #[arg(long, value_name = "FILE")]
    grpc_expander_cert: Option<PathBuf>,
}

/// A question on its way out.
#[derive(Clone, Default)]
struct Asking {
    digest: u64,
    offers: Arc<Vec<Offer>>,
    pools: Arc<Vec<PoolId>>,
}

impl OutsideExpanderFlags {
    /// Where the program is and who signed its certificate; `None` where no program is to be asked.
    pub(crate) fn check(&self, policies: &Policies) -> Result<Option<(String, PathBuf)>, CommandError> {
        let wanted = policies.choice.expanders.contains(&Expander::Grpc);
        let usage = |text: &str| Err(CommandError::Usage(text.to_owned()));
        match (wanted, &self.grpc_expander_url, &self.grpc_expander_cert) {
            (false, None, None) => Ok(None),
            (false, ..) => {
                usage("--grpc-expander-url and --grpc-expander-cert are of --expander=grpc; add it")
            }
            (true, Some(address), Some(authority)) => Ok(Some((address.clone(), authority.clone()))),
            (true, ..) => {
                usage("--expander=grpc needs --grpc-expander-url=HOST:PORT and --grpc-expander-cert=FILE")
            }
        }
    }

    /// The hook that lets questions out; `None` where no program is to be asked. Answers reach `told`.
    pub(crate) fn start(
        &self,
        policies: &Policies,
        limits: CallLimits,
        clock: Clock,
        told: watch::Sender<Policies>,
    ) -> Result<Option<RoundHook>, CommandError> {
        let Some((address, authority)) = self.check(policies)? else { return Ok(None) };
        let timeout = PATIENCE.min(limits.timeout);
        let tls = Some(Certificates { authority, identity: None });
        let server = Server { address: address.clone(), tls, connect_timeout: timeout };
        let client = Client::new(server, CallLimits { timeout, ..limits })
            .map_err(|why| CommandError::Input(format!("--expander=grpc: {why}")))?;
        tracing::info!(address, "a program chooses which pools grow");
        let (ask, questions) = watch::channel(Asking::default());
        // The question that is being asked; 0 is none.
        let open = Arc::new(AtomicU64::new(0));
        tokio::spawn(answer(client, questions, open.clone(), told, clock));
        Ok(Some(Box::new(move |round| {
            let Some(question) = &round.decision.growth.question else { return };
            // The same question comes again with every round until it is answered.
            if open.swap(question.digest, Ordering::Relaxed) != question.digest {
                ask.send_replace(asking(question, round.cluster));
            }
        })))
    }
}

fn asking(question: &ExpanderQuestion, cluster: &Cluster) -> Asking {
    let offer = |option: &model::ExpanderOption| Offer {
        group: option.name.clone(),
        machines: option.machines,
        pods: option.pods.iter().filter_map(|pod| cluster.pods().get(pod).cloned()).collect(),
        template: cluster.pools().get(&option.pool).and_then(|pool| pool.template.clone()),
    };
    Asking {
        digest: question.digest,
        offers: Arc::new(question.options.iter().map(offer).collect()),
        pools: Arc::new(question.options.iter().map(|option| option.pool.clone()).collect()),
    }
}

/// Asks the newest question, again and again, until the controller ends.
async fn answer(
    client: Client,
    mut questions: watch::Receiver<Asking>,
    open: Arc<AtomicU64>,
    told: watch::Sender<Policies>,
    clock: Clock,
) {
    let mut well = true;
    while questions.changed().await.is_ok() {
        let asking = questions.borrow_and_update().clone();
        let (chosen, holds) = match client.best(&asking.offers).await {
            Ok(chosen) => {
                well = true;
                let of =
                    |(pool, offer): (&PoolId, &Offer)| chosen.contains(&offer.group).then(|| pool.clone());
                (asking.pools.iter().zip(asking.offers.iter()).filter_map(of).collect(), HOLDS)
            }
            Err(failure) => {
                if std::mem::replace(&mut well, false) {
                    tracing::error!(%failure, "the program that chooses cannot be asked: every pool may grow");
                }
                (asking.pools.to_vec(), HOLDS_UNASKED)
            }
        };
        let until = clock.now().saturating_add(holds).unwrap_or(jiff::Timestamp::MAX);
        let answer = ExpanderAnswer { digest: asking.digest, pools: chosen, until };
        tracing::debug!(?answer, "the program has chosen");
        told.send_modify(|policies| policies.choice.answer = Some(answer));
        // A newer question that came meanwhile is asked next; the same one, once it comes again.
        let _ = open.compare_exchange(asking.digest, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}
