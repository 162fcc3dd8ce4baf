//! Waiting for a condition with a deadline; no test sleeps for anything else.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What a look at the world says: there it is, or why not yet.
pub type Look<T> = std::result::Result<T, String>;

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Looks until it is there, and fails with the last reason when `patience` has passed.
///
/// # Errors
/// After `patience`, and at once when a look itself fails.
pub async fn until<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Result<Look<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let reason = match look().await? {
            Ok(found) => return Ok(found),
            Err(reason) => reason,
        };
        if start.elapsed() >= patience {
            bail!("not within {} s: {what}; last seen: {reason}", patience.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks as long as `span` lasts, and fails at the first look that says no.
///
/// # Errors
/// When a look says why not, and when a look itself fails.
pub async fn throughout(what: &str, span: Duration, mut look: impl AsyncFnMut() -> Result<Look<()>>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < span {
        if let Err(reason) = look().await? {
            bail!("no longer true after {} ms: {what}; {reason}", start.elapsed().as_millis());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_reason_is_told() {
        let mut looks = 0;
        let error = until("rain", Duration::from_millis(300), async || {
            looks += 1;
            Ok(Look::<()>::Err(format!("sun {looks}")))
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("rain") && error.to_string().contains(&format!("sun {looks}")), "{error}");
        assert!(looks > 1);
    }
}
