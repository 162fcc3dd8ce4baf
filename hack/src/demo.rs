//! `cargo xtask demo`: what countersign is for, in one command on a machine that has nothing of it.
//!
//! A cluster, a real OpenBao beside it, the operator from its chart and two services that talk mutual TLS; then what
//! the product claims is done to them, and a table says which claims held. This file holds arguments and order; `site`
//! is where it plays, `install` what is brought there, `prove` what is done and observed, `proof` the judgement.

mod build;
mod calls;
mod close;
mod facts;
mod install;
mod interrupt;
mod proof;
mod prove;
mod site;
mod stage;
mod timeline;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use self::interrupt::Interrupt;
use self::proof::Proof;
use self::site::{INDEX, Site};
use self::stage::Stage;
use self::timeline::Timeline;
use crate::cache::Cache;
use crate::cluster::env::Env;
use crate::cluster::kubectl::Kubectl;
use crate::cluster::place::Run;

/// Arguments of `cargo xtask demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave everything running at the end and say how to look around
    #[arg(long)]
    keep: bool,
    /// Play in this existing cluster: one of `cargo xtask cluster`, or of kind
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Play in a cluster that kind makes
    #[arg(long, conflicts_with = "kubeconfig")]
    kind: bool,
}

impl DemoArgs {
    fn site(&self) -> Result<Site> {
        Ok(match (&self.kubeconfig, self.kind) {
            (Some(file), _) => {
                Site::Existing(std::path::absolute(file).context("the kubeconfig is not a usable path")?)
            }
            (None, true) => Site::Kind,
            (None, false) => Site::Own,
        })
    }
}

/// Plays the demo; fails unless every proof held.
pub fn main(args: &DemoArgs, cache: &Cache) -> Result<()> {
    let interrupt = Interrupt::watch()?;
    let timeline = Timeline::start();
    let site = args.site()?;
    site.ensure()?;
    interrupt.settle(site.build(cache, timeline))?;
    let images = interrupt.settle(build::images(cache, timeline))?;
    timeline.say("build", "programs and images are there");

    // From here on there is something to clean up.
    let started = site.start(cache);
    let played = match &started {
        Ok(env) => play(&site, env, &images, cache, timeline, &interrupt),
        Err(error) => Err(anyhow!("{error:#}")),
    };
    let ended = match started {
        Ok(env) if args.keep && !interrupt.happened() => {
            look_around(&env, &images.countersign.binary, &site);
            Ok(())
        }
        started => {
            let ended = site.end(cache, started.as_ref().ok());
            match &ended {
                Ok(()) => timeline.say("demo", "everything is cleaned up"),
                Err(_) => eprintln!("not all is gone; `cargo xtask cluster down --purge --index {INDEX}` tries again"),
            }
            ended
        }
    };
    let held = interrupt.settle(played).and_then(|proofs| conclude(&proofs, timeline));
    interrupt.settle(ended).and(held)
}

/// The table, as the last thing on the screen; fails unless every proof held.
fn conclude(proofs: &[Proof], timeline: Timeline) -> Result<()> {
    println!("\n{}", proof::table(proofs, timeline.elapsed().as_secs()));
    let failed = proofs.iter().filter(|proof| !proof.held()).count();
    if failed > 0 {
        bail!("{failed} of {} proofs did not hold", proofs.len());
    }
    Ok(())
}

fn play(
    site: &Site,
    env: &Env,
    images: &build::Images,
    cache: &Cache,
    timeline: Timeline,
    interrupt: &Interrupt,
) -> Result<Vec<Proof>> {
    let run = Run::new(cache, site::place()?);
    let kubectl = Kubectl::new(env.programs.kubectl.clone(), env.kubeconfig.clone(), run.dir());
    let stage = Stage { env: env.clone(), kubectl, timeline, interrupt: interrupt.clone() };
    stage.interrupt.check()?;
    stage.say("cluster", "it runs");
    let server = install::openbao(&stage, &run)?;
    for tar in images.tars() {
        site.load(env, tar)?;
    }
    stage.say("cluster", "it has the images of the operator and of the shop");
    stage.interrupt.check()?;
    install::operator(&stage, &run)?;
    install::trust(&stage, &server)?;
    install::shop(&stage, &server)?;
    prove::all(&stage, &server)
}

fn look_around(env: &Env, operator: &Path, site: &Site) {
    let kubeconfig = env.kubeconfig.display();
    println!("everything is still running. To look around:");
    println!("  export KUBECONFIG={kubeconfig}");
    println!("  alias kubectl={}", env.programs.kubectl.display());
    println!("  kubectl get countersign --all-namespaces");
    println!("  kubectl -n shop logs deployment/order --follow");
    println!("  {} explain secretbinding/database -n payments --kubeconfig {kubeconfig}", operator.display());
    println!("  kubectl -n shop annotate serviceidentity order countersign.dev/requested-at=\"$(date)\" --overwrite");
    println!("  {} explain VaultSealed", operator.display());
    match site {
        Site::Own => {
            println!("  cargo xtask openbao seal --index {INDEX}     # and unseal");
            println!("To end it: cargo xtask cluster down --purge --index {INDEX}");
        }
        Site::Kind => println!(
            "To end it: kind delete cluster --name countersign-demo, then\n  cargo xtask cluster down --purge --index {INDEX}"
        ),
        Site::Existing(_) => println!(
            "To end OpenBao: cargo xtask cluster down --purge --index {INDEX}; docs/how-to/uninstall.md removes the rest"
        ),
    }
}
