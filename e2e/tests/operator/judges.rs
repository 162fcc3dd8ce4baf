//! The judges themselves: each must refuse what deserves it, or its acceptance says nothing.

use anyhow::{Result, ensure};
use countersign_e2e::{identity::Material, judges::Docket};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

#[tokio::test]
async fn every_judge_refuses_a_stranger() -> Result<()> {
    let (ours, strangers) = (authority()?, authority()?);
    let mut docket = Docket::new()?;
    docket.add("good", &issue(&ours, &ours)?, "web.shop.svc")?;
    docket.add("stranger", &issue(&strangers, &ours)?, "web.shop.svc")?;
    docket.add("other-name", &issue(&ours, &ours)?, "bank.shop.svc")?;
    let refusals = docket.refusals().await?;
    let of = |judge: &str, folder: &str| {
        refusals.iter().any(|line| line.starts_with(judge) && line.contains(&format!("/{folder}")))
    };
    for judge in ["openssl", "webpki", "java", "go"] {
        ensure!(of(judge, "stranger"), "{judge} trusts anybody: {refusals:#?}");
        ensure!(!of(judge, "good"), "{judge} refuses a good one: {refusals:#?}");
    }
    for judge in ["webpki", "java", "go"] {
        ensure!(of(judge, "other-name"), "{judge} does not compare names: {refusals:#?}");
    }
    Ok(())
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// A leaf of `signer` with the roots of `trusted`.
fn issue(signer: &CertifiedIssuer<'static, KeyPair>, trusted: &CertifiedIssuer<'static, KeyPair>) -> Result<Material> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["web.shop.svc".to_owned()])?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, signer)?;
    let (chain, roots) = (leaf.pem().into_bytes(), trusted.pem().into_bytes());
    Ok(Material { chain, key: key.serialize_pem().into_bytes(), roots })
}
