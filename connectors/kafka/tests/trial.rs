use crate::support::*;
use portcullis_connector_api::*;
use portcullis_connector_kafka::*;
use std::time::{Duration, Instant};

fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
#[ignore]
fn sasl() {
    let mut c = Connection::plain("127.0.0.1:29794");
    c.sasl = Some(Sasl { mechanism: "PLAIN".into(), username: "pc".into(), password: "wrong".into() });
    let mut reader = Reader::of(&c, "g", "x");
    println!("{:?}", reader.failure());
    let mut w = Writer::to(&c, "x");
    println!("{:?}", w.sink.check(Duration::from_secs(5)));
    println!("{:?}", w.sink.not_ready());
    println!("{:?}", w.sink.send(&message("x", "k", "v"), Token(1)));
    c.sasl.as_mut().unwrap().password = "secret".into();
    create_topics(&c, &[Topic::new("sasl-t", 1)], LIMIT).unwrap();
    w = Writer::to(&c, "sasl-t");
    w.store(&[message("x", "k", "v")]);
    let mut reader = Reader::of(&c, "g", "sasl-t");
    reader.until("a message", |r| !r.records.is_empty());
    // SASL against a plain port
    c.brokers = "127.0.0.1:29792".into();
    let w = Writer::to(&c, "sasl-t");
    println!("plain port: {:?} {:?}", w.sink.check(Duration::from_secs(3)), w.sink.not_ready());
    // plain against the SASL port
    let c = Connection::plain("127.0.0.1:29794");
    let w = Writer::to(&c, "sasl-t");
    println!("plain to sasl port: {:?} {:?}", w.sink.check(Duration::from_secs(3)), w.sink.not_ready());
    let mut reader = Reader::of(&c, "g", "sasl-t");
    for _ in 0..150 {
        if let Err(e) = reader.poll(ALL) {
            println!("{e:?}");
            break;
        }
    }
}

#[test]
#[ignore]
fn speed() {
    let c = Connection::plain("127.0.0.1:29792");
    let n = 1_000_000_u64;
    let topic = format!("speed-{}", std::process::id());
    create_topics(&c, &[Topic::new(&topic, 16)], LIMIT).unwrap();
    let mut s = SinkSettings::new(c.clone(), TopicRule::Fixed(topic.clone()));
    s.linger_ms = 20;
    let mut w = Writer::with(s.clone());
    let (t, u) = (Instant::now(), cpu());
    let mut m = message(&topic, "key-000000", vec![b'x'; 246]);
    for i in 0..n {
        m.key = Some(Bytes::from(format!("key-{:06}", i % 100_000)));
        w.send(&m);
    }
    assert_eq!(w.sink.drain(LIMIT), 0);
    println!("produce {:.0} msg/s {:.2} CPU-s/M", n as f64 / t.elapsed().as_secs_f64(), cpu() - u);
    w.fates.take();
    for round in 0..2 {
        let mut src = KafkaSource::new(settings(&c, &format!("{topic}-{round}"), &topic)).unwrap();
        let mut batch = Batch::default();
        let (mut got, mut bytes, mut polls) = (0, 0, 0);
        let (t, u) = (Instant::now(), cpu());
        while got < n {
            batch.clear();
            src.poll(Budget { messages: 1024, bytes: 1024 * 1024 }, Duration::from_millis(100), &mut batch).unwrap();
            got += batch.records.len() as u64;
            polls += 1;
            bytes += batch.records.iter().map(|r| r.message.size_bytes()).sum::<usize>();
        }
        println!(
            "consume {:.0} msg/s {:.2} CPU-s/M {polls} polls {bytes}",
            n as f64 / t.elapsed().as_secs_f64(),
            cpu() - u
        );
        Box::new(src).close(LIMIT).unwrap();
    }
    for round in 0..2 {
        use rdkafka::Message as _;
        use rdkafka::consumer::{BaseConsumer, Consumer};
        let k: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", &c.brokers)
            .set("group.id", format!("{topic}-b{round}"))
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", "20")
            .create()
            .unwrap();
        k.subscribe(&[&topic]).unwrap();
        let (mut got, mut bytes) = (0, 0);
        let (t, u) = (Instant::now(), cpu());
        while got < n {
            if let Some(m) = k.poll(Duration::from_millis(100)) {
                let m = m.unwrap();
                got += 1;
                bytes += m.payload().unwrap().len();
            }
        }
        println!("plain poll {:.0} msg/s {:.2} CPU-s/M {bytes}", n as f64 / t.elapsed().as_secs_f64(), cpu() - u);
    }
    // pass through
    let out = format!("{topic}-out");
    create_topics(&c, &[Topic::new(&out, 16)], LIMIT).unwrap();
    s.topic = TopicRule::Fixed(out);
    let mut w = Writer::with(s);
    let mut src = KafkaSource::new(settings(&c, &format!("{topic}-p"), &topic)).unwrap();
    let mut batch = Batch::default();
    let mut got = 0;
    let (t, u) = (Instant::now(), cpu());
    while got < n {
        batch.clear();
        src.poll(Budget { messages: 1024, bytes: 1024 * 1024 }, Duration::from_millis(100), &mut batch).unwrap();
        got += batch.records.len() as u64;
        for r in batch.records.drain(..) {
            w.send(&r.message);
        }
    }
    assert_eq!(w.sink.drain(LIMIT), 0);
    println!("pass {:.0} msg/s {:.2} CPU-s/M", n as f64 / t.elapsed().as_secs_f64(), cpu() - u);
    let t = Instant::now();
    drop(w);
    println!("sink drop {:?}", t.elapsed());
    let t = Instant::now();
    Box::new(src).close(LIMIT).unwrap();
    println!("source close {:?}", t.elapsed());
}

/// Broker killed from outside meanwhile.
#[test]
#[ignore]
fn restart() {
    let c = Connection::plain("127.0.0.1:29792");
    let topic = format!("restart-{}", std::process::id());
    create_topics(&c, &[Topic::new(&topic, 4)], LIMIT).unwrap();
    let mut w = Writer::to(&c, &topic);
    let mut reader = Reader::of(&c, &topic, &topic);
    let total = 300_000;
    let all = numbered(&topic, total);
    let handle = std::thread::spawn(move || {
        for (i, m) in all.iter().enumerate() {
            w.send(m);
            if i % 1000 == 0 {
                std::thread::sleep(Duration::from_millis(40));
            }
        }
        println!("sent; left {}", w.sink.drain(LIMIT));
        let fates = w.fates.take();
        println!("fates {} bad {}", fates.len(), fates.iter().filter(|f| !matches!(f.1, Fate::Stored(_))).count());
        if let Some(bad) = fates.iter().find(|f| !matches!(f.1, Fate::Stored(_))) {
            println!("{bad:?}");
        }
    });
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut last = Instant::now();
    let mut uniq = std::collections::BTreeSet::new();
    let mut counted = 0;
    while uniq.len() < total && Instant::now() < deadline {
        for r in &reader.records[counted..] {
            uniq.insert((r.message.key.clone().unwrap(), r.offset));
        }
        counted = reader.records.len();
        if let Err(e) = reader.poll(ALL) {
            if e.kind != ErrorKind::Retriable {
                println!("{e:?}");
                break;
            }
            if last.elapsed() > Duration::from_secs(1) {
                println!("{e}");
                last = Instant::now();
            }
        }
        let done: Vec<_> = {
            let mut m = std::collections::BTreeMap::new();
            for r in reader.records.iter().rev().take(2048).rev() {
                m.insert(r.assignment, r.offset + 1);
            }
            m.into_iter().map(|(assignment, offset)| Acknowledgement { assignment, offset }).collect()
        };
        if let Err(e) = reader.source.acknowledge(&done, false) {
            println!("ack {e}");
        }
        if !reader.revoking.is_empty() {
            println!("revoking {:?}", reader.revoking);
            reader.release();
        }
        if reader.records.len() > 1000 && last.elapsed() > Duration::from_secs(5) {
            println!("read {}", reader.records.len());
            last = Instant::now();
        }
    }
    handle.join().unwrap();
    println!("read {} of {total}", reader.records.len());
    let mut seen = std::collections::BTreeSet::new();
    let before = reader.records.len();
    reader.records.retain(|r| seen.insert((r.message.key.clone().unwrap(), r.offset)));
    println!("delivered again {}", before - reader.records.len());
    let mut per: std::collections::HashMap<Bytes, u64> = Default::default();
    let (mut disorder, mut dup) = (0, 0);
    for r in &reader.records {
        let v: u64 = String::from_utf8_lossy(r.message.value.as_deref().unwrap()).parse().unwrap();
        match per.insert(r.message.key.clone().unwrap(), v) {
            Some(p) if p > v => disorder += 1,
            Some(p) if p == v => dup += 1,
            _ => {}
        }
    }
    println!("disorder {disorder} dup {dup}");
}
