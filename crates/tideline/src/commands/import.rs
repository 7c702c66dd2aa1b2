//! `tideline import`: another autoscaler's manifest in, our configuration out.
//!
//! Owns finding the other program's command line in a manifest and printing what it means as a document for
//! `tideline controller --config`. What a flag means is the controller command's.

mod karpenter;
mod workloads;

use super::{controller as controller_command, print};
use crate::duration;
use crate::error::CommandError;
use crate::foreign_flags;
use clap::{Parser, Subcommand};
use controller::{Config, config_file};
use intake::files::{Object, read_objects};
use jiff::SignedDuration;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Flags that say where and how the program runs, not what it does: they stay on the command line.
const STAY: [&str; 12] = [
    "kubeconfig",
    "v",
    "journal-dir",
    "address",
    "nodes",
    "node-group-auto-discovery",
    "cloud-config",
    "alicloud-region",
    "alicloud-endpoint",
    "huaweicloud-cluster",
    "huaweicloud-region",
    "huaweicloud-endpoint",
];

/// Prints another autoscaler's settings as a configuration of Tideline.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand)]
enum From {
    /// From the Deployment (or DaemonSet, StatefulSet, Pod) of a Cluster Autoscaler.
    ///
    /// What is printed goes to `tideline controller --config FILE`. Each flag that has no effect here, or is not
    /// served yet, is named in a comment.
    ClusterAutoscaler {
        /// The manifest, YAML or JSON; `-` is standard input
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },
    /// From Provisioners and AWSNodeTemplates of old Karpenters, and from NodePools and EC2NodeClasses of v1beta1.
    ///
    /// Prints NodePools and EC2NodeClasses for `kubectl apply -f -`; NodePools themselves are served as they are.
    Karpenter {
        /// Manifests, YAML or JSON, as `kubectl get provisioners,awsnodetemplates -o yaml` prints them; `-` is standard
        /// input
        #[arg(value_name = "FILE", required = true)]
        manifests: Vec<PathBuf>,
    },
    /// From HorizontalPodAutoscalers, KEDA's ScaledObjects and Alibaba Cloud's CronHorizontalPodAutoscalers.
    ///
    /// Prints IntelligentHorizontalPodAutoscalers for `kubectl apply -f -`. Comments say what could not be carried
    /// over and what is left to do.
    Workloads {
        /// Manifests, YAML or JSON, as `kubectl get hpa,scaledobjects,cronhpa -A -o yaml` prints them; `-` is standard
        /// input
        #[arg(value_name = "FILE", required = true)]
        manifests: Vec<PathBuf>,
        /// Zone in which CronHorizontalPodAutoscalers are meant: that of the machine their controller runs on
        #[arg(long, value_name = "ZONE", default_value = "UTC")]
        time_zone: String,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    match &arguments.from {
        From::ClusterAutoscaler { manifest } => cluster_autoscaler(manifest),
        From::Karpenter { manifests } => print(&karpenter::translate(&read_all(manifests)?)?),
        From::Workloads { manifests, time_zone } => {
            print(&workloads::translate(&read_all(manifests)?, time_zone)?)
        }
    }
}

fn read_all(manifests: &[PathBuf]) -> Result<Vec<Object>, CommandError> {
    let mut objects = Vec::new();
    for manifest in manifests {
        objects.extend(read(manifest)?);
    }
    Ok(objects)
}

fn read(manifest: &Path) -> Result<Vec<Object>, CommandError> {
    if manifest == Path::new("-") {
        return Ok(read_objects("standard input", &mut std::io::stdin().lock())?);
    }
    let mut file = std::fs::File::open(manifest)
        .map_err(|source| CommandError::Read { path: manifest.to_owned(), source })?;
    Ok(read_objects(&manifest.display().to_string(), &mut file)?)
}

fn cluster_autoscaler(manifest: &Path) -> Result<(), CommandError> {
    let name = manifest.display().to_string();
    let objects = read(manifest)?;
    let lines: Vec<Vec<String>> = objects.iter().flat_map(command_lines).collect();
    let [line] = lines.as_slice() else {
        return Err(CommandError::Input(format!(
            "{name} holds {} containers that run cluster-autoscaler; give a manifest with exactly one",
            lines.len()
        )));
    };
    print(&configuration(&name, line)?)
}

/// The flags of each container of an object that runs the program.
fn command_lines(object: &Object) -> Vec<Vec<String>> {
    let containers = ["/spec/template/spec/containers", "/spec/containers"]
        .into_iter()
        .filter_map(|path| object.value.pointer(path)?.as_array());
    containers.flatten().filter_map(flags_of).collect()
}

fn flags_of(container: &Value) -> Option<Vec<String>> {
    let words = |field: &str| -> Vec<String> {
        let list = container.get(field).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let (command, arguments) = (words("command"), words("args"));
    let runs_it = |word: &String| word.rsplit('/').next() == Some("cluster-autoscaler");
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let by_image = command.is_empty() && image.contains("cluster-autoscaler");
    if !by_image && !command.iter().any(runs_it) {
        return None;
    }
    let flags = command.into_iter().skip_while(|word| !runs_it(word)).skip(1).chain(arguments);
    Some(flags.collect())
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    controller: controller_command::Arguments,
}

/// The document for one command line.
fn configuration(name: &str, line: &[String]) -> Result<String, CommandError> {
    let sorted = foreign_flags::sort(line.to_vec());
    let (mut flags, mut staying, mut not_served) = (vec!["import".to_owned()], Vec::new(), Vec::new());
    let mut rest = sorted.arguments.into_iter().peekable();
    while let Some(flag) = rest.next() {
        let known = flag.trim_start_matches('-').split('=').next().unwrap_or_default().to_owned();
        let value = match flag.split_once('=') {
            Some((_, value)) => Some(value.to_owned()),
            None => rest.next_if(|next| !next.starts_with('-')),
        };
        let whole = value.as_ref().map_or(format!("--{known}"), |value| format!("--{known}={value}"));
        if STAY.contains(&known.as_str()) {
            staying.push(whole);
        } else if known == "cloud-provider" && !value.as_deref().is_some_and(controller_command::serves) {
            not_served.push(whole);
        } else {
            flags.push(whole);
        }
    }
    let flags = Flags::try_parse_from(flags).map_err(|error| {
        CommandError::Input(format!("{name}: {}", error.render().to_string().trim_start_matches("error: ")))
    })?;
    let config = controller_command::configured(&flags.controller, None)?;
    let mut text = format!("# {name}, for `tideline controller --config FILE`.\n");
    for flag in not_served {
        let _ = writeln!(text, "# Not served yet: {flag}");
    }
    for note in sorted.notes {
        let _ = writeln!(text, "# {note}");
    }
    if !staying.is_empty() {
        let _ = writeln!(text, "# Stays on the command line: {}", staying.join(" "));
    }
    let mut fields = Map::new();
    fields.insert("apiVersion".into(), config_file::API_VERSION.into());
    fields.insert("kind".into(), config_file::KIND.into());
    fields.extend(changed(&config)?);
    let body = serde_saphyr::to_string(&Value::Object(fields))
        .map_err(|error| CommandError::Encode { what: "the configuration".into(), why: error.to_string() })?;
    Ok(text + &body)
}

/// What differs from the defaults, with durations as people write them.
fn changed(config: &Config) -> Result<Map<String, Value>, CommandError> {
    let encode = |config: &Config| {
        serde_json::to_value(config).map_err(|error| CommandError::Encode {
            what: "the configuration".into(),
            why: error.to_string(),
        })
    };
    let difference = difference(&encode(config)?, &encode(&Config::default())?);
    Ok(match difference {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    })
}

fn difference(value: &Value, default: &Value) -> Option<Value> {
    match (value, default) {
        (Value::Object(fields), Value::Object(defaults)) => {
            let differing: Map<String, Value> = fields
                .iter()
                .filter_map(|(field, value)| {
                    let default = defaults.get(field).unwrap_or(&Value::Null);
                    Some((field.clone(), difference(value, default)?))
                })
                .collect();
            (!differing.is_empty()).then_some(Value::Object(differing))
        }
        _ if value == default => None,
        (Value::String(text), _) if text.starts_with('P') => {
            let readable = text.parse::<SignedDuration>().map_or(text.clone(), duration::short);
            Some(Value::String(readable))
        }
        _ => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: cluster-autoscaler, namespace: kube-system}
spec:
  template:
    spec:
      containers:
      - name: cluster-autoscaler
        image: registry.example/autoscaling/cluster-autoscaler:v1.32.0
        command: [./cluster-autoscaler, --v=4, --stderrthreshold=info, --cloud-provider=clusterapi]
        args: [--scale-down-unneeded-time=5m, --expander, least-waste, --max-nodes-total=80, --leader-elect=false]
";

    fn imported(manifest: &str) -> Result<String, CommandError> {
        let objects = read_objects("ca.yaml", &mut manifest.as_bytes())?;
        let lines: Vec<_> = objects.iter().flat_map(command_lines).collect();
        configuration("ca.yaml", &lines[0])
    }

    #[test]
    fn what_is_printed_means_the_same_to_the_controller() {
        let text = imported(MANIFEST).unwrap();
        assert!(text.contains("# Stays on the command line: --v=4"), "{text}");
        assert!(text.contains("# --stderrthreshold has no effect"), "{text}");
        assert!(text.contains("unneededTime: 5m"), "{text}");
        let read = config_file::read("ca.yaml", &text).unwrap();
        assert_eq!(read.policies.unneeded_time, SignedDuration::from_mins(5));
        assert_eq!(read.policies.max_nodes_total, 80);
        assert!(!read.leader_election.enabled);
        assert_eq!(read.providers, [model::ProviderKind::ClusterApi]);
    }

    #[test]
    fn what_is_not_served_is_named_and_what_is_unknown_is_refused() {
        let text = imported(&MANIFEST.replace("clusterapi", "gce")).unwrap();
        assert!(text.contains("# Not served yet: --cloud-provider=gce"), "{text}");
        let message = imported(&MANIFEST.replace("unneeded-time", "uneeded-time")).unwrap_err().to_string();
        assert!(message.contains("--scale-down-unneeded-time"), "{message}");
    }

    #[test]
    fn other_containers_are_passed_over() {
        let objects = read_objects("x", &mut "kind: Pod\nspec: {containers: [{image: nginx}]}\n".as_bytes());
        assert_eq!(objects.unwrap().iter().flat_map(command_lines).count(), 0);
    }
}
