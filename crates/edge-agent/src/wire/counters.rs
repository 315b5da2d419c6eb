//! What the bus counted, as the metrics page shows it.

use std::fmt::Write;

use edge_bus::Counters;

/// All counters in the Prometheus text format.
pub(crate) fn render(counters: &Counters) -> String {
    let Counters { sent, received, drops, sessions, connects, disconnects, broker } = counters;
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, lines: &[(&str, u64)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let messages = [("{direction=\"out\"}", *sent), ("{direction=\"in\"}", *received)];
    put("edged_bus_messages_total", "counter", "Sealed messages sent and opened.", &messages);
    let dropped = [
        ("{reason=\"oversized\"}", drops.oversized),
        ("{reason=\"malformed\"}", drops.malformed),
        ("{reason=\"forged\"}", drops.forged),
        ("{reason=\"replayed\"}", drops.replayed),
        ("{reason=\"queue_full\"}", drops.queue_full),
        ("{reason=\"no_path\"}", drops.no_path),
        ("{reason=\"incomplete\"}", drops.incomplete),
    ];
    put("edged_bus_dropped_total", "counter", "Messages dropped, by reason.", &dropped);
    put("edged_bus_sessions", "gauge", "Sessions with brokers.", &[("", *sessions)]);
    let changes = [("{to=\"up\"}", *connects), ("{to=\"down\"}", *disconnects)];
    put("edged_bus_session_changes_total", "counter", "Sessions that came and went.", &changes);
    put(
        "edged_broker_clients",
        "gauge",
        "Clients of this board's broker.",
        &[("", broker.clients)],
    );
    let refused = [
        ("{reason=\"queue_full\"}", broker.dropped),
        ("{reason=\"slow\"}", broker.slow),
        ("{reason=\"denied\"}", broker.denied),
        ("{reason=\"refused\"}", broker.refused),
        ("{reason=\"half_open\"}", broker.half_open),
        ("{reason=\"malformed\"}", broker.malformed),
        ("{reason=\"oversized\"}", broker.oversized),
    ];
    put("edged_broker_refused_total", "counter", "What the broker refused.", &refused);
    put("edged_broker_wills_total", "counter", "Last wills published.", &[("", broker.wills)]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_line() {
        let mut counters = Counters::default();
        counters.drops.forged = 7;
        let text = render(&counters);
        assert!(text.contains("edged_bus_dropped_total{reason=\"forged\"} 7\n"), "{text}");
        assert!(text.contains("# TYPE edged_broker_wills_total counter\n"), "{text}");
    }
}
