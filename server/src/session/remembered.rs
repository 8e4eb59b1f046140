//! The session that a connection named last: the next request of it mostly names the same, and its id need not be opened again.
//! What may have changed meanwhile, the keys, its end and its time, is looked at each time.

use std::sync::Mutex;

use super::{Claims, SessionKey, Sessions, TokenError, lock};

/// What a connection remembers. It goes with the connection's HTTP state: one that rests remembers nothing.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Option<Opened>>);

#[derive(Debug)]
struct Opened {
    token: Box<str>,
    /// Of the keys it was opened with.
    generation: u64,
    session: SessionKey,
    claims: Claims,
}

impl Sessions {
    /// As [`Sessions::open`], of a request on a connection that remembers the session it named last.
    ///
    /// # Errors
    /// As [`Sessions::open`].
    pub fn open_again(&self, remembered: &Remembered, token: &str, now: u64) -> Result<(SessionKey, Claims), TokenError> {
        let generation = self.generation();
        let mut last = lock(&remembered.0);
        if let Some(Opened { session, claims, .. }) =
            last.as_ref().filter(|last| last.generation == generation && is_same(&last.token, token))
        {
            self.is_open(*session, claims, now)?;
            return Ok((*session, claims.clone()));
        }
        let (session, claims) = self.open(token, now)?;
        *last = Some(Opened { token: token.into(), generation, session, claims: claims.clone() });
        Ok((session, claims))
    }
}

/// Takes the same time wherever they differ: a gateway's connection carries the requests of many clients.
fn is_same(one: &str, other: &str) -> bool {
    let bytes = one.bytes().zip(other.bytes());
    one.len() == other.len() && bytes.fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::version::Version;
    use crate::session::{generated_ring, random};

    const NOW: u64 = 1_500;

    fn claims() -> Claims {
        Claims { issued: 1_000, expires: 2_000, version: Version::V2025_11_25, capabilities: 5, principal: "ada".to_owned() }
    }

    #[test]
    fn a_connection_opens_what_it_remembers_as_it_would_open_it_anew() {
        let sessions = Sessions::new(random(), generated_ring()).unwrap();
        let remembered = Remembered::default();
        let tokens = [(); 2].map(|()| sessions.seal(&claims()).unwrap());
        for token in [0, 0, 1, 0, 1, 1].map(|n: usize| &tokens[n]) {
            assert_eq!(sessions.open_again(&remembered, token, NOW), sessions.open(token, NOW));
        }
        let made_up = format!("{}x", tokens[1]);
        for other in [&tokens[1][1..], &made_up, "", &tokens[1].to_uppercase()] {
            assert!(sessions.open_again(&remembered, other, NOW).is_err(), "{other:?}");
        }
    }

    #[test]
    fn what_is_remembered_expires_ends_and_goes_with_its_key() {
        let old = generated_ring();
        let sessions = Sessions::new(random(), old).unwrap();
        let remembered = Remembered::default();
        let token = sessions.seal(&claims()).unwrap();
        let (session, _) = sessions.open_again(&remembered, &token, NOW).unwrap();
        assert_eq!(sessions.open_again(&remembered, &token, 2_000), Err(TokenError::Expired));
        sessions.replace_keys(generated_ring()).unwrap();
        assert_eq!(sessions.open_again(&remembered, &token, NOW), Err(TokenError::UnknownKey));
        let token = sessions.seal(&claims()).unwrap();
        let (other, _) = sessions.open_again(&remembered, &token, NOW).unwrap();
        assert_ne!(session, other);
        sessions.revoke(other, 2_000, NOW).unwrap();
        assert_eq!(sessions.open_again(&remembered, &token, NOW), Err(TokenError::Ended));
    }
}
