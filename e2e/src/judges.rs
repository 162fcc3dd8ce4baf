//! Outside judges of what the operator issues: OpenSSL, Java, Go and rustls-webpki must all accept it.
//!
//! Each judge gets the files of a Secret as a pod would see them and knows nothing else. Java and Go also shake hands
//! with the certificate as server and as client at once.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustls_pki_types::{ServerName, UnixTime};
use tempfile::TempDir;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::{
    identity::Material,
    manifests::repository,
    program::{capture, finish},
};

/// A program that only just starts a compiler or a virtual machine may take this long.
const PATIENCE: Duration = Duration::from_secs(180);

/// Folders as pods see them, one for each Secret to be judged.
pub struct Docket {
    dir: TempDir,
    folders: Vec<PathBuf>,
}

impl Docket {
    /// An empty one.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub fn new() -> Result<Self> {
        Ok(Self { dir: TempDir::new().context("no place for temporary files")?, folders: Vec::new() })
    }

    /// Adds the material of an identity that may call itself `server`.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn add(&mut self, name: &str, material: &Material, server: &str) -> Result<()> {
        let folder = self.dir.path().join(name);
        std::fs::create_dir_all(&folder)?;
        let leaf = first_block(&material.chain)?;
        let files: [(&str, &[u8]); 5] = [
            ("tls.crt", &material.chain),
            ("tls.key", &material.key),
            ("ca.crt", &material.roots),
            ("leaf.crt", leaf),
            ("name", server.as_bytes()),
        ];
        for (file, content) in files {
            std::fs::write(folder.join(file), content)?;
        }
        self.folders.push(folder);
        Ok(())
    }

    /// What every judge has against the material; empty if all accept all.
    ///
    /// # Errors
    /// When a judge cannot be asked.
    pub async fn refusals(&self) -> Result<Vec<String>> {
        let mut refusals = Vec::new();
        for folder in &self.folders {
            refusals.extend(openssl(folder).await?);
            refusals.extend(webpki(folder).err().map(|why| format!("webpki refused {}: {why:#}", folder.display())));
        }
        let judges = repository().join("e2e/judges");
        let java = judges.join("java/Judge.java").to_string_lossy().into_owned();
        refusals.extend(self.ask("java", &["-Xshare:auto", "-XX:TieredStopAtLevel=1", &java]).await?);
        let go = judges.join("go").to_string_lossy().into_owned();
        refusals.extend(self.ask("go", &["-C", &go, "run", "."]).await?);
        Ok(refusals)
    }

    /// Runs a judge on all folders at once; it must have a word on each.
    async fn ask(&self, program: &str, arguments: &[&str]) -> Result<Vec<String>> {
        let folders: Vec<String> = self.folders.iter().map(|folder| folder.to_string_lossy().into_owned()).collect();
        let mut arguments = arguments.to_vec();
        arguments.extend(folders.iter().map(String::as_str));
        let said = capture(Path::new(program), &arguments, &[], PATIENCE).await?;
        let refusals: Vec<String> =
            said.lines().filter(|line| line.starts_with("refused ")).map(|line| format!("{program} {line}")).collect();
        let accepted = said.lines().filter(|line| line.starts_with("ok ")).count();
        if accepted + refusals.len() != self.folders.len() {
            bail!("{program} did not judge {} folders:\n{said}", self.folders.len());
        }
        Ok(refusals)
    }
}

/// `openssl verify`, in its strict mode and for both purposes.
async fn openssl(folder: &Path) -> Result<Vec<String>> {
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (ca, chain, leaf) = (file("ca.crt"), file("tls.crt"), file("leaf.crt"));
    let mut refusals = Vec::new();
    for purpose in ["sslserver", "sslclient"] {
        let arguments = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &ca, "-untrusted", &chain, &leaf];
        let ended = finish(Path::new("openssl"), &arguments, &[], PATIENCE).await?;
        if !ended.success {
            refusals.push(format!("openssl refused {} as {purpose}: {}", folder.display(), ended.stderr.trim()));
        }
    }
    Ok(refusals)
}

fn webpki(folder: &Path) -> Result<()> {
    let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| format!("cannot read {name}"));
    let material = Material { chain: read("tls.crt")?, key: Vec::new(), roots: read("ca.crt")? };
    let (chain, roots) = (material.certificates()?, material.anchors()?);
    let (leaf, intermediates) = chain.split_first().context("no leaf")?;
    let leaf = EndEntityCert::try_from(leaf)?;
    let anchors: Vec<_> = roots.iter().map(anchor_from_trusted_cert).collect::<Result<_, _>>()?;
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            UnixTime::now(),
            usage,
            None,
            None,
        )?;
    }
    let name = String::from_utf8(read("name")?).context("a name that is not text")?;
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name.as_str())?)?;
    Ok(())
}

/// The first PEM block of a chain: OpenSSL reads only one certificate as the one to verify.
fn first_block(pem: &[u8]) -> Result<&[u8]> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let end = pem.windows(END.len()).position(|window| window == END).context("tls.crt holds no certificate")?;
    pem.get(..end + END.len()).context("tls.crt is cut off")
}
