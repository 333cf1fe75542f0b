//! What a service manager is told, where there is one (`sd_notify(3)`). Nothing of it can fail in a way that matters.

use std::time::Duration;

use sd_notify::NotifyState;

fn tell(state: &[NotifyState<'_>]) {
    let _nobody_listens = sd_notify::notify(state);
}

/// The hooks are attached.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read anew; [`ready`] ends that.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// The last spans are on their way.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("Sending what is left")]);
}

/// We are well.
pub(super) fn alive(status: &str) {
    tell(&[NotifyState::Watchdog, NotifyState::Status(status)]);
}

/// How often that has to be said, if at all.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}
