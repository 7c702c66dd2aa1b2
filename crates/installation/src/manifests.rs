//! Plain manifests, and the chart's generated part.
//!
//! Owns the text of roles and of the Deployment. Templates of the chart that do not follow from the table of rights
//! are files of `deploy/chart`, written by hand.

use crate::permissions::{Feature, Place, Scope, guarded_rules, rules};

const HEAD: &str = "# Written by `cargo xtask generate` from the table of rights; do not edit.\n";

/// What plain manifests are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifests {
    pub namespace: String,
    pub image: String,
    pub scope: Scope,
    /// Besides these, flags of the controller.
    pub arguments: Vec<String>,
}

/// ServiceAccount and roles, as they are committed for tests and for those who write their own Deployment.
pub fn rbac(namespace: &str, scope: &Scope) -> String {
    let account = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: tideline\n  namespace: {namespace}\n---\n"
    );
    account
        + "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: tideline\nrules:\n"
        + &rules(Place::WholeCluster, scope)
        + "---\n"
        + &binding("ClusterRoleBinding", "ClusterRole", None, namespace)
        + "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: tideline\n  namespace: "
        + namespace
        + "\nrules:\n"
        + &rules(Place::OwnNamespace, scope)
        + "---\n"
        + &binding("RoleBinding", "Role", Some(namespace), namespace)
}

fn binding(kind: &str, role: &str, of: Option<&str>, namespace: &str) -> String {
    let of = of.map_or_else(String::new, |namespace| format!("  namespace: {namespace}\n"));
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: tideline\n{of}roleRef:\n  \
         apiGroup: rbac.authorization.k8s.io\n  kind: {role}\n  name: tideline\nsubjects:\n  - kind: ServiceAccount\n    \
         name: tideline\n    namespace: {namespace}\n"
    )
}

/// The chart's roles: the same rows, each behind the value that switches its feature on.
pub fn chart_roles() -> String {
    let labels = "  labels: {{- include \"tideline.labels\" . | nindent 4 }}\n";
    let name = "  name: {{ include \"tideline.name\" . }}\n";
    let subject = "subjects:\n  - kind: ServiceAccount\n    name: {{ include \"tideline.serviceAccount\" . }}\n    \
                   namespace: {{ .Release.Namespace }}\n";
    let meta = |kind: &str| {
        format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n{name}{labels}")
    };
    let reference =
        |kind: &str| format!("roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n{name}");
    let own = "  namespace: {{ .Release.Namespace }}\n";
    [
        HEAD.to_owned(),
        "{{- if .Values.rbac.create }}\n".to_owned(),
        meta("ClusterRole") + "rules:\n" + &guarded_rules(Place::WholeCluster) + "---\n",
        meta("ClusterRoleBinding") + &reference("ClusterRole") + subject,
        "---\n".to_owned() + &meta("Role") + own + "rules:\n" + &guarded_rules(Place::OwnNamespace) + "---\n",
        meta("RoleBinding") + own + &reference("Role") + subject,
        "{{- end }}\n".to_owned(),
    ]
    .concat()
}

impl Manifests {
    /// Everything but the CRDs, ready for `kubectl apply -f -`.
    pub fn text(&self) -> String {
        rbac(&self.namespace, &self.scope)
            + "---\n"
            + &self.deployment()
            + "---\n"
            + &self.service()
            + "---\n"
            + &self.budget()
    }

    fn deployment(&self) -> String {
        let mut arguments = vec!["controller".to_owned(), format!("--namespace={}", self.namespace)];
        arguments.extend(self.scope.dry_run.then(|| "--dry-run".to_owned()));
        // Without the rights nothing of it is tried.
        let workloads = self.scope.features.contains(&Feature::Workloads);
        arguments.extend((!workloads).then(|| "--workloads=false".to_owned()));
        arguments.extend(self.arguments.iter().cloned());
        let arguments: String = arguments
            .iter()
            .map(|argument| serde_json::Value::from(argument.as_str()).to_string())
            .fold(String::new(), |text, argument| text + "            - " + &argument + "\n");
        DEPLOYMENT
            .replace("NAMESPACE", &self.namespace)
            .replace("IMAGE", &self.image)
            .replace("            ARGUMENTS\n", &arguments)
    }

    fn service(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: tideline\n  namespace: {}\nspec:\n  selector:\n    \
             app.kubernetes.io/name: tideline\n  ports:\n    - name: http\n      port: 8085\n      targetPort: http\n",
            self.namespace
        )
    }

    fn budget(&self) -> String {
        format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: tideline\n  namespace: {}\nspec:\n  \
             maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: tideline\n",
            self.namespace
        )
    }
}

/// One acts, the other stands by; nothing that a restricted namespace would refuse.
const DEPLOYMENT: &str = include_str!("deployment.yaml");

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn objects(text: &str) -> Vec<Value> {
        text.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
    }

    #[test]
    fn manifests_are_well_formed_and_a_dry_run_is_granted_nothing_that_changes() {
        let mut manifests = Manifests {
            namespace: "capacity".into(),
            image: "registry.example/tideline:1".into(),
            scope: Scope { features: crate::Feature::ALL.to_vec(), dry_run: false },
            arguments: vec!["--max-nodes-total=5".into()],
        };
        let all = objects(&manifests.text());
        let kinds: Vec<&str> = all.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "ServiceAccount",
                "ClusterRole",
                "ClusterRoleBinding",
                "Role",
                "RoleBinding",
                "Deployment",
                "Service",
                "PodDisruptionBudget"
            ]
        );
        let container = &all[5]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["args"][2], "--max-nodes-total=5");
        assert_eq!(container["image"], "registry.example/tideline:1");
        manifests.scope.dry_run = true;
        let rehearsal = objects(&manifests.text());
        let rows =
            rehearsal.iter().filter_map(|object| object["rules"].as_array()).map(Vec::len).sum::<usize>();
        let needed = crate::PERMISSIONS.iter().filter(|row| manifests.scope.includes(row)).count();
        assert_eq!(rows, needed, "a dry run is granted every row that it needs");
        let verbs: Vec<&str> = rehearsal
            .iter()
            .filter_map(|object| object["rules"].as_array())
            .flatten()
            .flat_map(|rule| rule["verbs"].as_array().unwrap())
            .map(|verb| verb.as_str().unwrap())
            .collect();
        assert!(verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb)), "{verbs:?}");
        assert_eq!(rehearsal[5]["spec"]["template"]["spec"]["containers"][0]["args"][2], "--dry-run");
    }
}
