//! Health of the models: each has a name of its own, and the service of questions is as well as its best model.

use std::collections::BTreeMap;

use tonic_health::{ServingStatus, server::HealthReporter};

/// The service of questions.
pub(crate) const QA: &str = "reelsight.v1.QaService";

/// Under which name the health of `model` is asked for.
fn name(model: &str) -> String {
    format!("{QA}/{model}")
}

fn status(well: bool) -> ServingStatus {
    if well {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

/// Writes down how the models are.
pub(crate) async fn report(health: &HealthReporter, models: &BTreeMap<String, bool>) {
    for (model, &well) in models {
        health.set_service_status(name(model), status(well)).await;
    }
    let any = status(models.values().any(|&well| well));
    health.set_service_status(QA, any).await;
    health.set_service_status("", any).await;
}
