//! Where the APIs are, by region.
//!
//! Owns the table: the service has one central address for its oldest regions and one a region for the others. What
//! is not in it is guessed by the rule that all newer regions follow; any address can be set instead.

/// Regions whose Auto Scaling is reached at the central address.
const CENTRAL: &[&str] = &[
    "cn-qingdao",
    "cn-beijing",
    "cn-hangzhou",
    "cn-shanghai",
    "cn-shenzhen",
    "cn-hongkong",
    "cn-nanjing",
    "ap-southeast-1",
    "us-east-1",
    "us-west-1",
    "cn-beijing-finance-1",
    "cn-hangzhou-finance",
    "cn-north-2-gov-1",
    "cn-shanghai-finance-1",
    "cn-shenzhen-finance-1",
];

/// Addresses of the APIs, each with its scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    pub ess: String,
    pub ecs: String,
    pub sts: String,
    pub metadata: String,
}

impl Endpoints {
    pub fn of(region: &str) -> Self {
        let ess = if CENTRAL.contains(&region) {
            "https://ess.aliyuncs.com".to_owned()
        } else {
            format!("https://ess.{region}.aliyuncs.com")
        };
        Self {
            ess,
            ecs: format!("https://ecs.{region}.aliyuncs.com"),
            sts: format!("https://sts.{region}.aliyuncs.com"),
            metadata: "http://100.100.100.200".to_owned(),
        }
    }

    /// Replaces one address: `ess=https://ess-vpc.cn-hangzhou.aliyuncs.com`.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let wrong = |why: &str| {
            format!(
                "\"{text}\": {why}; write ess, ecs, sts or metadata, \"=\" and an address such as https://host"
            )
        };
        let (name, address) = text.split_once('=').ok_or_else(|| wrong("there is no \"=\""))?;
        let address = address.trim_end_matches('/');
        let host = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
            return Err(wrong("the address is not http:// or https:// and a host"));
        }
        let place = match name {
            "ess" => &mut self.ess,
            "ecs" => &mut self.ecs,
            "sts" => &mut self.sts,
            "metadata" => &mut self.metadata,
            _ => return Err(wrong("there is no such API")),
        };
        address.clone_into(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_region_and_can_be_set() {
        assert_eq!(Endpoints::of("cn-hangzhou").ess, "https://ess.aliyuncs.com");
        let mut endpoints = Endpoints::of("eu-central-1");
        assert_eq!(endpoints.ess, "https://ess.eu-central-1.aliyuncs.com");
        endpoints.set("ess=http://127.0.0.1:8080/").unwrap();
        assert_eq!(endpoints.ess, "http://127.0.0.1:8080");
        for wrong in ["ess", "ess=host", "oss=https://host", "ess=https://host/path"] {
            assert!(endpoints.set(wrong).unwrap_err().contains("write ess"), "{wrong}");
        }
    }
}
