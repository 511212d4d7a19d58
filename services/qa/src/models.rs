//! The loaded models, and how fast they have been.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use reelsight_engine::Engine;

use tokio::sync::watch;

use crate::QaError;

/// Loaded models by name; one is the default.
#[derive(Debug, Clone, Default)]
pub struct Models {
    engines: Arc<BTreeMap<String, Engine>>,
    default: String,
    pace: Arc<Mutex<Pace>>,
    /// Whether each model gives answers.
    health: watch::Sender<BTreeMap<String, bool>>,
}

/// Averages over earlier asks.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    secs_per_frame: Option<f64>,
    secs_per_ask: Option<f64>,
}

/// Weight of the newest ask.
const NEWEST: f64 = 0.25;

fn blend(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| old + (new - old) * NEWEST)
}

impl Models {
    /// `engines` under their own names; the first is the default.
    #[must_use]
    pub fn new(engines: Vec<Engine>) -> Self {
        let default = engines
            .first()
            .map_or_else(String::new, |engine| engine.info().name.clone());
        let well = engines.iter().map(|engine| (engine.info().name.clone(), true));
        let health = watch::Sender::new(well.collect());
        let by_name = engines
            .into_iter()
            .map(|engine| (engine.info().name.clone(), engine))
            .collect();
        Self {
            engines: Arc::new(by_name),
            default,
            pace: Arc::default(),
            health,
        }
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Engine> {
        self.engines.values()
    }

    /// Whether any model is loaded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.engines.is_empty()
    }

    /// The model `name`, or the default for the empty name.
    ///
    /// # Errors
    /// [`QaError::UnknownModel`], or [`QaError::NoModel`] when there is none at all.
    pub fn get(&self, name: &str) -> Result<&Engine, QaError> {
        let wanted = if name.is_empty() { &self.default } else { name };
        self.engines.get(wanted).ok_or_else(|| {
            if self.engines.is_empty() {
                QaError::NoModel
            } else {
                QaError::UnknownModel(name.to_owned())
            }
        })
    }

    /// Whether each model gives answers: not after it has computed what is no number, until it answers again.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<BTreeMap<String, bool>> {
        self.health.subscribe()
    }

    /// `model` has answered, or has shown that it cannot.
    pub(crate) fn found(&self, model: &str, well: bool) {
        self.health
            .send_if_modified(|models| match models.get_mut(model) {
                Some(known) if *known != well => {
                    *known = well;
                    true
                }
                _ => false,
            });
    }

    pub(crate) fn learn(&self, wall: Duration, frames: usize) {
        let mut pace = self.pace.lock();
        pace.secs_per_ask = Some(blend(pace.secs_per_ask, wall.as_secs_f64()));
        if frames > 0 {
            pace.secs_per_frame = Some(blend(pace.secs_per_frame, wall.as_secs_f64() / frames as f64));
        }
    }

    /// A guess at the time of an ask about `frames` frames; `None` before the first ask.
    pub(crate) fn estimate(&self, frames: usize) -> Option<Duration> {
        let secs = self.pace.lock().secs_per_frame? * frames as f64;
        Duration::try_from_secs_f64(secs).ok()
    }

    /// A guess at the wait behind `ahead` asks of which `lanes` run at a time; zero before the first ask.
    pub(crate) fn estimate_wait(&self, ahead: usize, lanes: usize) -> Duration {
        let secs = self.pace.lock().secs_per_ask.unwrap_or(0.0) * (ahead / lanes.max(1)) as f64;
        Duration::try_from_secs_f64(secs).unwrap_or(Duration::ZERO)
    }
}
