//! Whether the Hub answers at all, for those who look for what is wrong.

use super::HubOptions;
use crate::error::{Error, Result};
use std::time::Duration;

/// Asks the Hub for nothing but an answer, whatever it is, within `timeout`.
///
/// # Errors
/// [`Error::Network`] with the reason.
pub fn reachable(hub: &HubOptions, timeout: Duration) -> Result<()> {
    let failed = |why: String| {
        let hint = "the Hub can not be reached".to_owned();
        Error::Network { what: hub.endpoint.clone(), why, hint }
    };
    // A blocking client must not be made inside an async runtime, which a thread of its own never is.
    let asked = std::thread::scope(|scope| {
        let ask = || {
            let client = reqwest::blocking::Client::builder().timeout(timeout).build()?;
            client.head(&hub.endpoint).send().map(|_| ())
        };
        scope.spawn(ask).join()
    });
    match asked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            // The innermost cause says what happened; those around it only where.
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            Err(failed(cause.to_string()))
        }
        Err(_) => Err(failed("the request broke off".to_owned())),
    }
}
