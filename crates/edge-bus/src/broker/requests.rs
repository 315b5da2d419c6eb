//! What a client asks of the broker, packet by packet, with the rules of MQTT 5 and the access
//! rules applied. An error is the reason with which the client is disconnected.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    DisconnectReasonCode as Reason, Filter, Packet, PubAck, PubAckReason, Publish,
    RetainForwardRule, SubAck, Subscribe, SubscribeReasonCode as Granted, UnsubAck, UnsubAckReason,
    Unsubscribe,
};

use super::access::Identity;
use super::hub::{Hub, Wish};
use crate::outbox::{Outbox, Put};
use crate::packet::{Manner, Message, properties_size};
use crate::topics::{valid_filter, valid_topic};

/// A receiver whose queue is half full is waited for while it makes progress, but no longer than
/// eight times this; after this long without any it is waited for no more.
const STILL: Duration = Duration::from_millis(500);

/// Bytes of the properties that are passed on.
const PROPERTIES: usize = 8 * 1024;

/// A client that was let in.
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) identity: Identity,
    pub(crate) hub: Arc<Hub>,
    pub(crate) outbox: Arc<Outbox>,
}

impl Client {
    /// Queues an answer; waits while too many wait to be written.
    pub(crate) async fn answer(&self, packet: Packet) -> Result<(), Reason> {
        if !self.outbox.answer(packet) {
            self.outbox.answers_sent().await;
        }
        Ok(())
    }

    pub(crate) async fn publish(&self, publish: Publish) -> Result<(), Reason> {
        let Ok(topic) = std::str::from_utf8(&publish.topic) else {
            return Err(Reason::TopicNameInvalid);
        };
        if publish.qos == QoS::ExactlyOnce {
            return Err(Reason::QoSNotSupported);
        }
        if let Some(properties) = &publish.properties {
            if properties.topic_alias.is_some() {
                return Err(Reason::TopicAliasInvalid);
            }
            if !properties.subscription_identifiers.is_empty() {
                return Err(Reason::ProtocolError);
            }
            if properties_size(properties) > PROPERTIES {
                return Err(Reason::QuotaExceeded);
            }
        }
        if !valid_topic(topic) {
            return Err(Reason::TopicNameInvalid);
        }
        let qos1 = publish.qos == QoS::AtLeastOnce;
        let access = &self.hub.access;
        let kept = publish.retain && !access.may_retain(&self.identity);
        if kept || !access.may_publish(&self.identity, topic) {
            self.hub.counts.denied.one();
            return self.acknowledge(qos1, publish.pkid, PubAckReason::NotAuthorized).await;
        }
        let manner = Manner { qos1, retain: publish.retain };
        let message = Message {
            topic: publish.topic.clone(),
            payload: publish.payload,
            properties: publish.properties.map(Arc::new),
        };
        let routed = self.hub.publish(Some(self.number), topic, message, manner);
        let reason = match routed.reached {
            _ if routed.unkept => PubAckReason::QuotaExceeded,
            0 => PubAckReason::NoMatchingSubscribers,
            _ => PubAckReason::Success,
        };
        self.acknowledge(qos1, publish.pkid, reason).await?;
        for crowded in routed.crowded {
            crowded.room(STILL).await;
        }
        Ok(())
    }

    async fn acknowledge(&self, wanted: bool, id: u16, reason: PubAckReason) -> Result<(), Reason> {
        if !wanted {
            return Ok(());
        }
        let mut ack = PubAck::new(id, None);
        ack.reason = reason;
        self.answer(Packet::PubAck(ack)).await
    }

    pub(crate) async fn subscribe(&self, subscribe: Subscribe) -> Result<(), Reason> {
        if subscribe.pkid == 0 {
            return Err(Reason::ProtocolError);
        }
        if subscribe.properties.as_ref().is_some_and(|p| p.id.is_some()) {
            return Err(Reason::SubscriptionIdentifiersNotSupported);
        }
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let mut retained = Vec::new();
        for filter in &subscribe.filters {
            let (code, messages) = self.add(filter)?;
            codes.push(code);
            retained.extend(messages);
        }
        let ack = SubAck { pkid: subscribe.pkid, return_codes: codes, properties: None };
        self.answer(Packet::SubAck(ack)).await?;
        for (message, qos1) in retained {
            match self.outbox.put(&message, Manner { qos1, retain: true }) {
                Put::Taken => self.hub.counts.delivered.one(),
                Put::Crowded => {
                    self.hub.counts.delivered.one();
                    self.outbox.room(STILL).await;
                }
                Put::Full | Put::TooLarge => self.hub.counts.dropped.one(),
                Put::Closed => break,
            }
        }
        Ok(())
    }

    /// One filter: what the client is told, and the retained messages with their QoS.
    #[allow(clippy::type_complexity)]
    fn add(&self, filter: &Filter) -> Result<(Granted, Vec<(Arc<Message>, bool)>), Reason> {
        let refused = |code| Ok((code, Vec::new()));
        if filter.path.starts_with("$share/") {
            return refused(Granted::SharedSubscriptionsNotSupported);
        }
        if !valid_filter(&filter.path) {
            return refused(Granted::TopicFilterInvalid);
        }
        if !self.hub.access.may_subscribe(&self.identity, &filter.path) {
            self.hub.counts.denied.one();
            return refused(Granted::NotAuthorized);
        }
        let qos1 = filter.qos != QoS::AtMostOnce;
        let wish = Wish {
            qos1,
            no_local: filter.nolocal,
            as_published: filter.preserve_retain,
            retained: match filter.retain_forward_rule {
                RetainForwardRule::OnEverySubscribe => 0,
                RetainForwardRule::OnNewSubscribe => 1,
                RetainForwardRule::Never => 2,
            },
        };
        let Some(messages) = self.hub.subscribe(self.number, &filter.path, wish) else {
            return refused(Granted::QuotaExceeded);
        };
        let granted = if qos1 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let messages = messages.into_iter().map(|message| (message, qos1)).collect();
        Ok((Granted::Success(granted), messages))
    }

    pub(crate) async fn unsubscribe(&self, unsubscribe: Unsubscribe) -> Result<(), Reason> {
        if unsubscribe.pkid == 0 || unsubscribe.filters.is_empty() {
            return Err(Reason::ProtocolError);
        }
        let ended = unsubscribe.filters.iter().map(|filter| {
            match self.hub.unsubscribe(self.number, filter) {
                true => UnsubAckReason::Success,
                false => UnsubAckReason::NoSubscriptionExisted,
            }
        });
        let reasons = ended.collect();
        let ack = UnsubAck { pkid: unsubscribe.pkid, reasons, properties: None };
        self.answer(Packet::UnsubAck(ack)).await
    }
}
