//! The demo's workloads: replicas that follow the hours of a day which passes quickly.
//!
//! Owns the waves and their noise. It is a user like any other: it applies Deployments and scales them.

use clock::Clock;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Times a day that replicas are set anew.
const STEPS_A_DAY: u32 = 96;
const DAY_SECONDS: f64 = 86_400.0;

/// One workload and its day.
struct Wave {
    name: &'static str,
    cpu: &'static str,
    memory: &'static str,
    /// Replicas at night and at the peak.
    low: f64,
    high: f64,
    /// Hour of the peak.
    peak: f64,
}

const WAVES: &[Wave] = &[
    Wave { name: "shop", cpu: "500m", memory: "512Mi", low: 4.0, high: 70.0, peak: 20.0 },
    Wave { name: "search", cpu: "1", memory: "3Gi", low: 2.0, high: 22.0, peak: 14.0 },
    Wave { name: "reports", cpu: "3", memory: "4Gi", low: 0.0, high: 6.0, peak: 2.0 },
];

impl Wave {
    /// Replicas at an hour: a cosine, squeezed so that the peak is narrower than the night, and some noise.
    fn replicas(&self, hour: f64, noise: f64) -> u32 {
        let angle = (hour - self.peak) / 24.0 * std::f64::consts::TAU;
        let height = f64::midpoint(1.0, angle.cos()).powf(1.6);
        let wanted = self.low + (self.high - self.low) * height * (1.0 + noise);
        wanted.round().clamp(0.0, 2.0 * self.high) as u32
    }

    fn manifest(&self, replicas: u32) -> serde_json::Value {
        let labels = json!({"app": self.name});
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": "default", "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{
                        "name": self.name,
                        "image": format!("example.test/{}:1", self.name),
                        "resources": {"requests": {"cpu": self.cpu, "memory": self.memory}},
                    }]},
                },
            },
        })
    }
}

/// Applies the workloads and lets them breathe until the task is ended.
pub(super) async fn breathe(client: Client, clock: Clock, speed: u32, seed: u64) {
    let api: Api<Deployment> = Api::default_namespaced(client);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let pause = SignedDuration::from_millis(
        (DAY_SECONDS * 1000.0 / f64::from(STEPS_A_DAY) / f64::from(speed)).round() as i64,
    );
    for step in 0_u32.. {
        // The day begins at six in the morning, when there is something to see soon.
        let hour = (6.0 + 24.0 * f64::from(step % STEPS_A_DAY) / f64::from(STEPS_A_DAY)) % 24.0;
        for wave in WAVES {
            let replicas = wave.replicas(hour, random.random_range(-0.08..0.08));
            if let Err(error) = set(&api, wave, replicas).await {
                tracing::error!(workload = wave.name, %error, "the demo could not set replicas; it goes on");
            }
        }
        let next = clock.now().saturating_add(pause).unwrap_or(jiff::Timestamp::MAX);
        clock.sleep_until(next).await;
    }
}

async fn set(api: &Api<Deployment>, wave: &Wave, replicas: u32) -> kube::Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    match api.patch(wave.name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let manifest: Deployment =
                serde_json::from_value(wave.manifest(replicas)).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &manifest).await.map(|_| ())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_high_at_its_peak_and_low_half_a_day_away() {
        for wave in WAVES {
            assert_eq!(wave.replicas(wave.peak, 0.0), wave.high as u32);
            assert_eq!(wave.replicas(wave.peak + 12.0, 0.0), wave.low as u32);
        }
    }
}
