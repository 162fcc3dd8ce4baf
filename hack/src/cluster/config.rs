//! Renders the configuration files of one cluster from the templates in `hack/cluster/conf`.

use anyhow::{Result, bail};

use super::daemons::Plan;
use super::place::NODE;
use crate::files;

/// What is applied to a cluster with a node: the rights of kube-proxy, and CoreDNS.
pub fn addons(plan: &Plan) -> Result<String> {
    render(include_str!("../../cluster/conf/addons.yaml"), plan)
}

/// Writes every file that the daemons of the plan's layer read.
pub fn write(plan: &Plan) -> Result<()> {
    let dir = plan.run.config();
    files::create_folder(&dir)?;
    files::write(dir.join("audit.yaml"), include_str!("../../cluster/conf/audit.yaml"))?;
    if !plan.has_node() {
        return Ok(());
    }
    for (name, template) in [
        ("containerd.toml", include_str!("../../cluster/conf/containerd.toml")),
        ("kubelet.yaml", include_str!("../../cluster/conf/kubelet.yaml")),
        ("kube-proxy.yaml", include_str!("../../cluster/conf/kube-proxy.yaml")),
        ("resolv.conf", "nameserver @HOST@\n"),
        ("bridge.conflist", include_str!("../../cluster/conf/bridge.conflist")),
    ] {
        files::write(dir.join(name), &render(template, plan)?)?;
    }
    Ok(())
}

/// Puts the plan's values in the place of `@NAME@`; fails on a name it does not know.
fn render(template: &str, plan: &Plan) -> Result<String> {
    let mut text = template.to_owned();
    for (name, value) in [
        ("@RUN@", plan.run.dir().display().to_string()),
        ("@PKI@", plan.run.pki().display().to_string()),
        ("@CONFIG@", plan.run.config().display().to_string()),
        ("@BIN@", plan.bin.display().to_string()),
        ("@NODE@", NODE.to_owned()),
        ("@CGROUP@", plan.place.cgroup()),
        ("@HOST@", plan.place.host_address().to_string()),
        ("@PODS@", plan.place.pod_cidr()),
        ("@NODE_PODS@", plan.place.node_pod_cidr()),
        ("@DNS@", plan.place.dns_service().to_string()),
    ] {
        text = text.replace(name, &value);
    }
    if let Some(line) = text.lines().find(|line| line.contains('@')) {
        bail!("a template asks for an unknown value: {}", line.trim());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::daemons::tests::plan;
    use super::super::place::Layer;
    use super::*;

    #[test]
    fn values_replace_names_and_an_unknown_name_is_refused() {
        let plan = plan(Layer::L1);
        assert_eq!(render("a @DNS@ b @HOST@", &plan).unwrap(), "a 10.123.0.10 b 10.250.3.1");
        assert!(render("@DSN@", &plan).unwrap_err().to_string().contains("@DSN@"));
    }

    #[test]
    fn every_template_renders() {
        let plan = plan(Layer::L1);
        assert!(addons(&plan).unwrap().contains("10.250.3.1 host.node.test"));
        for template in [
            include_str!("../../cluster/conf/containerd.toml"),
            include_str!("../../cluster/conf/kubelet.yaml"),
            include_str!("../../cluster/conf/kube-proxy.yaml"),
            include_str!("../../cluster/conf/bridge.conflist"),
        ] {
            render(template, &plan).unwrap();
        }
    }
}
