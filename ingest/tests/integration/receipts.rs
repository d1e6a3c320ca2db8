//! Gateways are told what is durable, and only that.

use std::time::Duration;

use meterlake_config::{MqttBroker, MqttProtocol, ReceiptTopic};
use meterlake_ingest::mqtt::{Limits, WireSource};
use meterlake_model::DeadReason;

use crate::fake_broker::{Connection, FakeBroker, PUBACK};
use crate::harness::{Collector, collect_from, count, in_both_versions, speaking};

in_both_versions! {
    a_gateway_is_told_what_is_durable_and_no_sooner,
    a_message_in_another_gateways_name_brings_it_no_receipt,
}

fn start(protocol: MqttProtocol, fake: &FakeBroker) -> Collector {
    let receipts = Some(ReceiptTopic::parse("r/{gateway}").unwrap());
    let limits = Limits { receipt_every: Duration::from_millis(10), ..Limits::default() };
    collect_from::<WireSource>(MqttBroker { receipts, ..speaking(protocol, fake.port) }, limits)
}

fn reading(gateway: &str, sequence: u64) -> String {
    format!(
        "{{\"gateway\":\"{gateway}\",\"sequence\":{sequence},\"ts\":\"2024-05-01T00:00:00Z\",\"energy_import_kwh\":{sequence}}}"
    )
}

/// The next receipt: topic, first and last number. Acknowledgements that come before it are counted.
async fn receipt(connection: &mut Connection, protocol: MqttProtocol, pubacks: &mut usize) -> (String, u64, u64) {
    loop {
        let packet = connection.packet().await.expect("a packet");
        if packet.head == PUBACK {
            *pubacks += 1;
            continue;
        }
        assert_eq!(packet.head, 0x32, "QoS 1, not retained");
        let topic_end = 2 + usize::from(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        let topic = String::from_utf8(packet.body[2..topic_end].to_vec()).unwrap();
        let id = &packet.body[topic_end..topic_end + 2];
        connection.send(&[0x40, 2, id[0], id[1]]).await;
        let payload = topic_end + 2 + usize::from(protocol == MqttProtocol::V5);
        let json: serde_json::Value = serde_json::from_slice(&packet.body[payload..]).unwrap();
        assert_eq!(topic, format!("r/{}", json["gateway"].as_str().unwrap()));
        return (topic, json["from"].as_u64().unwrap(), json["sequence"].as_u64().unwrap());
    }
}

async fn a_gateway_is_told_what_is_durable_and_no_sooner(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = start(protocol, &fake);
    let mut connection = fake.welcome(false).await;
    let mut deliveries = Vec::new();
    // At QoS 0 too, and with a gap.
    for (id, sequence) in [(1, 1), (2, 2), (0, 3), (3, 7)] {
        connection.publish(id, "e1", &reading("gw-1", sequence)).await;
        deliveries.push(collector.next().await);
    }
    let [one, two, three, seven] = <[_; 4]>::try_from(deliveries).unwrap();
    let mut pubacks = 0;
    // What is not durable is not told, whatever became durable after it.
    seven.ack.durable();
    assert_eq!(receipt(&mut connection, protocol, &mut pubacks).await, ("r/gw-1".to_owned(), 7, 7));
    one.ack.durable();
    assert_eq!(receipt(&mut connection, protocol, &mut pubacks).await, ("r/gw-1".to_owned(), 1, 1));
    three.ack.durable();
    assert_eq!(receipt(&mut connection, protocol, &mut pubacks).await, ("r/gw-1".to_owned(), 3, 3));
    drop(two);
    assert_eq!(pubacks, 1, "the second message holds back the acknowledgement of the third, not its receipt");
    assert_eq!(count(&collector.stats.receipts), 3);
    collector.handle.abort();
}

async fn a_message_in_another_gateways_name_brings_it_no_receipt(protocol: MqttProtocol) {
    let fake = FakeBroker::speaking(protocol).await;
    let mut collector = start(protocol, &fake);
    let mut connection = fake.welcome(false).await;
    let mut pubacks = 0;
    // By the registry, e3 is behind gw-3: whoever speaks for it in the name of gw-1 would make gw-1 drop its own message.
    connection.publish(1, "e3", &reading("gw-1", 5)).await;
    let spoofed = collector.next().await;
    assert_eq!(spoofed.batch.dead_letters[0].reason, DeadReason::Identity);
    spoofed.ack.durable();
    // Two more ticks.
    for (id, sequence) in [(2, 1), (3, 9)] {
        connection.publish(id, "e3", &reading("gw-3", sequence)).await;
        collector.next().await.ack.durable();
        let told = receipt(&mut connection, protocol, &mut pubacks).await;
        assert_eq!(told, ("r/gw-3".to_owned(), sequence, sequence));
    }
    collector.handle.abort();
}
