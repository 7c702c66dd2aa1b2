//! `tideline import karpenter`: Provisioners, AWSNodeTemplates and kinds of v1beta1 in, NodePools and EC2NodeClasses out.
//!
//! Owns the choice of what is translated and the printing; what an old field means is `claims`' business.

use crate::error::CommandError;
use claims::{beta, legacy};
use intake::files::Object;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;

/// The objects that take the place of those given, as YAML for `kubectl apply -f -`.
pub(super) fn translate(objects: &[Object]) -> Result<String, CommandError> {
    let mut text = String::new();
    let mut translated = 0;
    let (mut beta_pools, mut beta_classes) = (Vec::new(), Vec::new());
    for object in objects {
        match (object.api_version(), object.kind()) {
            ("karpenter.sh/v1alpha5", "Provisioner") => {
                let old = object.decode()?;
                if let Some(class) = legacy::class_of_provisioner(&old) {
                    document(&mut text, &class)?;
                }
                document(&mut text, &legacy::node_pool(&old).map_err(|why| refused(object, &why))?)?;
            }
            ("karpenter.k8s.aws/v1alpha1", "AWSNodeTemplate") => {
                let old = object.decode()?;
                document(&mut text, &legacy::class_of_template(&old).map_err(|why| refused(object, &why))?)?;
            }
            (beta::POOLS, "NodePool") => beta_pools.push(object.value.clone()),
            (beta::CLASSES, "EC2NodeClass") => beta_classes.push(object.value.clone()),
            (version, kind) => {
                // Writing to a String does not fail.
                let _ = writeln!(text, "# {}: {kind} of {version} is left out", object.origin);
                continue;
            }
        }
        translated += 1;
    }
    let beta = beta::translate(&beta_pools, &beta_classes)
        .map_err(|why| CommandError::Input(format!("v1beta1: {why}")))?;
    for class in &beta.classes {
        document(&mut text, class)?;
    }
    for pool in &beta.pools {
        document(&mut text, pool)?;
    }
    if translated == 0 {
        return Err(CommandError::Input(
            "nothing to translate: give Provisioners (karpenter.sh/v1alpha5), AWSNodeTemplates \
             (karpenter.k8s.aws/v1alpha1), or NodePools and EC2NodeClasses of v1beta1; NodePools of karpenter.sh/v1 are served as they are"
                .to_owned(),
        ));
    }
    Ok(text)
}

fn refused(object: &Object, why: &legacy::Untranslatable) -> CommandError {
    CommandError::Input(format!("{}: {why}", object.origin))
}

/// One document, without what says whose it is: an object that is applied by hand belongs to nobody.
fn document(text: &mut String, object: &impl Serialize) -> Result<(), CommandError> {
    let broken = |error: String| CommandError::Input(format!("an object could not be written: {error}"));
    let mut value = serde_json::to_value(object).map_err(|error| broken(error.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("annotations");
            metadata.remove("ownerReferences");
        }
    }
    text.push_str("---\n");
    text.push_str(&serde_saphyr::to_string(&value).map_err(|error| broken(error.to_string()))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use intake::files::read_objects;

    fn translated(yaml: &str) -> Result<String, CommandError> {
        translate(&read_objects("old.yaml", &mut yaml.as_bytes()).unwrap())
    }

    #[test]
    fn old_kinds_are_translated_and_others_are_named() {
        let old = "apiVersion: karpenter.sh/v1alpha5\nkind: Provisioner\nmetadata: {name: a}\nspec: {providerRef: {name: t}, \
                   ttlSecondsAfterEmpty: 30}\n---\napiVersion: karpenter.k8s.aws/v1alpha1\nkind: AWSNodeTemplate\n\
                   metadata: {name: t}\nspec: {subnetSelector: {a: b}, securityGroupSelector: {a: b}}\n---\n\
                   apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
        let text = translated(old).unwrap();
        for part in
            ["kind: NodePool", "consolidateAfter: 30s", "kind: EC2NodeClass", "ConfigMap of v1 is left out"]
        {
            assert!(text.contains(part), "\"{part}\" is not in:\n{text}");
        }
        assert!(!text.contains("ownerReferences"));
        let error = translated("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n").unwrap_err();
        assert!(error.to_string().contains("Provisioners"));
        let beta = "apiVersion: karpenter.sh/v1beta1\nkind: NodePool\nmetadata: {name: b}\nspec: {template: {spec: \
                    {requirements: [], nodeClassRef: {name: t}}}}\n";
        let text = translated(beta).unwrap();
        assert!(
            text.contains("apiVersion: karpenter.sh/v1\n") && text.contains("group: karpenter.k8s.aws"),
            "{text}"
        );
        let error = translated(&beta.replace("nodeClassRef", "nodeClass")).unwrap_err().to_string();
        assert!(error.contains("NodePool b: spec.template.spec.nodeClass"), "{error}");
        let both = "apiVersion: karpenter.sh/v1alpha5\nkind: Provisioner\nmetadata: {name: a}\nspec: {}\n";
        assert!(translated(both).unwrap_err().to_string().contains("spec.providerRef"));
    }
}
