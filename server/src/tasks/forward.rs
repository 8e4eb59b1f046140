//! A request about a task of another shard, and what that shard says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Tasks, elsewhere};
use crate::auth::Principal;
use crate::fault::Fault;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Get,
    Update(Map<String, Value>),
    Cancel,
}

#[derive(Debug, Serialize, Deserialize)]
struct Forwarded {
    principal: String,
    id: String,
    request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Task(Map<String, Value>),
    Done,
    Refused(String),
}

impl Tasks {
    /// Asks the shard that runs a task; none when it cannot be asked.
    pub(super) async fn forward(
        &self,
        principal: &Principal,
        sealed: &str,
        runs: crate::session::Incarnation,
        request: Request,
    ) -> Result<Option<Map<String, Value>>, Fault> {
        let forwarded = Forwarded { principal: principal.name.clone(), id: sealed.to_owned(), request };
        let shard = super::lock(&self.shard).upgrade().ok_or_else(elsewhere)?;
        let text = serde_json::to_string(&forwarded).map_err(|_| elsewhere())?;
        let said = shard.peers.about_task(runs, text).await.ok_or_else(elsewhere)?;
        match serde_json::from_str(&said).map_err(|_| elsewhere())? {
            Said::Task(task) => Ok(Some(task)),
            Said::Done => Ok(None),
            Said::Refused(why) => Err(Fault::InvalidParams(why)),
        }
    }

    /// Answers another shard. The id is checked here as well: it says whose the task is.
    pub(crate) fn answer(self: &Arc<Self>, forwarded: &str) -> Option<String> {
        let Forwarded { principal, id, request } = serde_json::from_str(forwarded).ok()?;
        let principal = Principal { name: principal };
        let answered = match request {
            Request::Get => self.get_here(&principal, &id).map(Said::Task),
            Request::Update(responses) => self.update_here(&principal, &id, responses).map(|()| Said::Done),
            Request::Cancel => self.cancel_here(&principal, &id).map(|()| Said::Done),
        };
        let said = match answered {
            Ok(said) => said,
            Err(Fault::InvalidParams(why)) => Said::Refused(why),
            Err(_) => return None,
        };
        serde_json::to_string(&said).ok()
    }
}
