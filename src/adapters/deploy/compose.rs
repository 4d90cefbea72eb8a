//! What a compose file may do on a host, and which of its services are at fault when it does not come up.

use serde_json::Value;

/// Capabilities that containers have anyway, or that only concern themselves.
const HARMLESS_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Maximum number of services.
const MAX_SERVICES: usize = 100;

/// What is refused, with the allowance that permits it.
struct Refused {
    what: String,
    allowance: &'static str,
}

/// Returns why a compose configuration is refused, one line for each reason. `tree` is the folder of the release on the
/// host. Without a criterion that makes a request, every service needs a health check.
pub fn problems(config: &Value, tree: &str, allow: &[String], has_request: bool) -> Vec<String> {
    let mut refused = Vec::new();
    let mut lines = Vec::new();
    if entries(config, "services").count() > MAX_SERVICES {
        lines.push(format!("there are more than {MAX_SERVICES} services, and each must be inspected"));
    }
    for (name, service) in entries(config, "services").take(MAX_SERVICES) {
        of_service(name, service, tree, &mut refused);
        let health = &service["healthcheck"];
        if !has_request && (health.is_null() || health["disable"] == true) {
            lines.push(format!(
                "service {name} has no health check, and no criterion makes a request: add a healthcheck to it, or a \
                 criterion with http"
            ));
        }
    }
    // Others are the volumes and networks of another application on the host.
    let prefix = config["name"].as_str().map(|name| format!("{name}_"));
    let is_foreign = |item: &Value| {
        let full = item["name"].as_str();
        is_set(&item["external"]) || prefix.as_ref().zip(full).is_some_and(|(own, full)| !full.starts_with(own))
    };
    for (name, volume) in entries(config, "volumes") {
        if is_foreign(volume) {
            refuse(&mut refused, "host-mounts", format!("volume {name} belongs to another application"));
        }
        let options = &volume["driver_opts"];
        if !options["device"].is_null() || !options["o"].is_null() {
            refuse(&mut refused, "host-mounts", format!("volume {name} is a folder or device of the host"));
        }
    }
    for part in ["secrets", "configs"] {
        for (name, item) in entries(config, part) {
            if item["file"].as_str().is_some_and(|file| !is_inside(file, tree)) {
                refuse(&mut refused, "host-mounts", format!("{part}.{name} is a file of the host"));
            }
        }
    }
    for (name, network) in entries(config, "networks") {
        if network["name"] == "host" || network["driver"] == "host" {
            refuse(&mut refused, "host-network", format!("network {name} is the host's network"));
        } else if is_foreign(network) {
            refuse(&mut refused, "host-network", format!("network {name} belongs to another application"));
        }
    }
    let refused = refused.into_iter().filter(|r| !allow.iter().any(|allowed| allowed == r.allowance));
    lines.extend(refused.map(|r| format!("{}: refused without allow = [\"{}\"]", r.what, r.allowance)));
    lines
}

fn entries<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> + use<'v> {
    value[key].as_object().into_iter().flatten()
}

fn refuse(all: &mut Vec<Refused>, allowance: &'static str, what: String) {
    all.push(Refused { what, allowance });
}

fn is_inside(path: &str, tree: &str) -> bool {
    let is_plain = !path.split('/').any(|part| part == "..");
    is_plain && (path == tree || path.strip_prefix(tree).is_some_and(|rest| rest.starts_with('/')))
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn of_service(name: &str, service: &Value, tree: &str, refused: &mut Vec<Refused>) {
    let mut add = |allowance, what: &str| refuse(refused, allowance, format!("service {name} {what}"));
    if is_set(&service["privileged"]) {
        add("privileged", "is privileged");
    }
    for key in ["devices", "device_cgroup_rules", "gpus", "provider", "cgroup_parent"] {
        if is_set(&service[key]) {
            add("privileged", &format!("uses {key}"));
        }
    }
    for capability in texts(&service["cap_add"]) {
        let plain = capability.to_ascii_uppercase();
        if !HARMLESS_CAPABILITIES.contains(&plain.trim_start_matches("CAP_")) {
            add("privileged", &format!("has the capability {capability}"));
        }
    }
    for option in texts(&service["security_opt"]) {
        let profile = ["seccomp", "apparmor"].iter().find_map(|kind| option.strip_prefix(kind));
        let is_own = profile.is_some_and(|rest| !matches!(&rest[1.min(rest.len())..], "builtin" | "docker-default"));
        if is_own || option.contains("unconfined") || option.contains("disable") {
            add("privileged", &format!("turns off protection ({option})"));
        }
    }
    for hook in ["post_start", "pre_stop"] {
        if service[hook].as_array().is_some_and(|hooks| hooks.iter().any(|hook| is_set(&hook["privileged"]))) {
            add("privileged", &format!("has a privileged {hook}"));
        }
    }
    let mode = |key: &str| service[key].as_str().unwrap_or_default();
    if mode("network_mode") == "host" || mode("network_mode").starts_with("container:") {
        add("host-network", "uses the network of the host or of a container outside the project");
    }
    for key in ["pid", "ipc", "uts", "userns_mode", "cgroup"] {
        if mode(key) == "host" || mode(key).starts_with("container:") {
            add("host-pid", &format!("shares {key} with the host or a container outside the project"));
        }
    }
    if is_set(&service["use_api_socket"]) {
        add("docker-socket", "uses the Docker socket");
    }
    for volume in service["volumes"].as_array().into_iter().flatten() {
        let source = volume["source"].as_str().unwrap_or_default();
        let is_mount = volume["type"] != "volume" && volume["type"] != "tmpfs" && !source.is_empty();
        if source.contains("docker.sock") {
            add("docker-socket", "mounts the Docker socket");
        } else if is_mount && !is_inside(source, tree) {
            add("host-mounts", &format!("mounts {source} of the host"));
        }
    }
    if texts(&service["volumes_from"]).any(|from| from.starts_with("container:")) {
        add("host-mounts", "mounts the volumes of a container outside the project");
    }
    let build = &service["build"];
    if is_set(&build["privileged"]) || is_set(&build["entitlements"]) {
        add("privileged", "is built with privileges");
    }
    if is_set(&build["ssh"]) {
        add("host-mounts", "is built with keys of the host");
    }
    if build["network"] == "host" {
        add("host-network", "is built in the network of the host");
    }
    let contexts = build["additional_contexts"].as_object().into_iter().flatten().filter_map(|(_, v)| v.as_str());
    for context in build["context"].as_str().into_iter().chain(contexts) {
        if context.starts_with('/') && !is_inside(context, tree) {
            add("host-mounts", &format!("is built from {context} of the host"));
        }
    }
}

/// Returns the services that are not well, with their state in words, from the output of `docker compose ps`.
pub fn unwell(output: &str) -> Vec<(String, String)> {
    let values: Vec<Value> = match serde_json::from_str(output.trim()) {
        Ok(Value::Array(all)) => all,
        Ok(one) => vec![one],
        Err(_) => output.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect(),
    };
    let mut found: Vec<(String, String)> = Vec::new();
    for container in values.iter().take(MAX_SERVICES) {
        let text = |key: &str| container[key].as_str().unwrap_or_default();
        let exit = container["ExitCode"].as_i64().unwrap_or_default();
        let state = match (text("State"), text("Health")) {
            ("running", "" | "healthy") => continue,
            ("exited", _) if exit == 0 => continue,
            ("running", health) => health.to_owned(),
            ("exited", _) => format!("exited with {exit}"),
            (other, _) => other.to_owned(),
        };
        let service = text("Service").to_owned();
        if !service.is_empty() && found.iter().all(|(known, _)| *known != service) {
            found.push((service, state));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(service: Value, allow: &[&str]) -> Vec<String> {
        let allow: Vec<String> = allow.iter().map(|a| (*a).to_owned()).collect();
        problems(&json!({ "services": { "web": service } }), "/srv/tree", &allow, true)
    }

    #[test]
    fn what_reaches_the_host_is_refused_unless_it_is_allowed() {
        let bind = |source: &str| json!({ "volumes": [{ "type": "bind", "source": source, "target": "/x" }] });
        for (service, allowance) in [
            (json!({ "privileged": true }), "privileged"),
            (json!({ "cap_add": ["SYS_ADMIN"] }), "privileged"),
            (json!({ "security_opt": ["seccomp:unconfined"] }), "privileged"),
            (json!({ "security_opt": ["seccomp=./all.json"] }), "privileged"),
            (json!({ "devices": [{ "source": "/dev/sda" }] }), "privileged"),
            (json!({ "provider": { "type": "/bin/sh" } }), "privileged"),
            (json!({ "post_start": [{ "command": ["x"], "privileged": true }] }), "privileged"),
            (json!({ "network_mode": "host" }), "host-network"),
            (json!({ "pid": "host" }), "host-pid"),
            (json!({ "ipc": "container:other" }), "host-pid"),
            (json!({ "use_api_socket": true }), "docker-socket"),
            (bind("/var/run/docker.sock"), "docker-socket"),
            (bind("/"), "host-mounts"),
            (bind("/srv/tree/../../etc"), "host-mounts"),
            (bind("/srv/trees"), "host-mounts"),
            (json!({ "build": { "context": "/root" } }), "host-mounts"),
            (json!({ "build": { "context": "/srv/tree", "ssh": ["default"] } }), "host-mounts"),
        ] {
            let found = of(service.clone(), &[]);
            assert!(found.len() == 1 && found[0].contains(allowance), "{service}: {found:?}");
            assert!(of(service.clone(), &[allowance]).is_empty(), "{service}");
        }
        for good in [
            bind("/srv/tree/conf"),
            bind("/srv/tree"),
            json!({ "volumes": [{ "type": "volume", "source": "data", "target": "/x" }] }),
            json!({ "cap_add": ["NET_BIND_SERVICE"], "network_mode": "bridge", "privileged": false }),
            json!({ "build": { "context": "https://example.org/x.git" } }),
        ] {
            assert!(of(good.clone(), &[]).is_empty(), "{good}");
        }
        let top = json!({ "volumes": { "d": { "driver_opts": { "device": "/", "o": "bind" } } },
            "secrets": { "s": { "file": "/etc/shadow" } }, "networks": { "n": { "name": "host" } } });
        assert_eq!(problems(&top, "/srv/tree", &[], true).len(), 3);
    }

    #[test]
    fn what_belongs_to_another_application_is_refused() {
        let of = |volume: Value, network: Value| {
            let config = json!({ "name": "web", "volumes": { "d": volume }, "networks": { "default": network } });
            problems(&config, "/srv/tree", &[], true)
        };
        assert!(of(json!({ "name": "web_d" }), json!({ "name": "web_default" })).is_empty());
        for (volume, network) in [
            (json!({ "name": "other_data" }), json!({ "name": "other_default" })),
            (json!({ "external": true }), json!({ "name": "web_default", "external": true })),
        ] {
            let found = of(volume, network);
            assert!(found.len() == 2 && found.iter().all(|line| line.contains("another application")), "{found:?}");
        }
    }

    #[test]
    fn every_service_is_inspected() {
        let mut services: serde_json::Map<String, Value> =
            (0..MAX_SERVICES).map(|n| (format!("s{n:03}"), json!({}))).collect();
        services.insert("z".to_owned(), json!({ "privileged": true }));
        let found = problems(&json!({ "services": services }), "/srv/tree", &[], true);
        assert!(found.iter().any(|line| line.contains("more than 100 services")), "{found:?}");
    }

    #[test]
    fn a_service_without_a_health_check_needs_a_request() {
        let config = json!({ "services": { "a": { "healthcheck": { "test": ["x"] } }, "b": {},
            "c": { "healthcheck": { "disable": true } } } });
        let found = problems(&config, "/srv", &[], false);
        assert!(found.len() == 2 && found[0].contains("service b") && found[1].contains("service c"), "{found:?}");
        assert!(problems(&config, "/srv", &[], true).is_empty());
    }

    #[test]
    fn services_that_are_not_well_are_found_in_both_forms() {
        let lines = r#"{"Service":"web","State":"running","Health":"unhealthy","ExitCode":0}
{"Service":"db","State":"running","Health":"healthy"}
{"Service":"job","State":"exited","ExitCode":0}
{"Service":"worker","State":"exited","ExitCode":3}"#;
        let expected = [("web".to_owned(), "unhealthy".to_owned()), ("worker".to_owned(), "exited with 3".to_owned())];
        assert_eq!(unwell(lines), expected);
        assert_eq!(unwell(&format!("[{}]", lines.replace('\n', ","))), expected);
        assert!(unwell("no JSON").is_empty() && unwell("").is_empty());
    }
}
