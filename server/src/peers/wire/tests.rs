use super::*;

fn page() -> Page {
    Page { incarnation: [3; 16], index: 2, expires: 77, bits: Box::new([5; PAGE_BYTES]) }
}

fn record() -> Record {
    let uris = Uris::of(["a:b", "a:c"]).unwrap();
    Record { version: 6, expires: 7, level: Some(LoggingLevel::Debug), uris }
}

fn frames() -> Vec<Frame> {
    let session = SessionKey { incarnation: [7; 16], number: 9 };
    vec![
        Frame::Hello(Hello {
            nonce: [1; 32],
            incarnation: [2; 16],
            name: "c-0".to_owned(),
            keys: vec!["a".to_owned(), "b".to_owned()],
        }),
        Frame::Welcome(Welcome {
            nonce: [1; 32],
            incarnation: [2; 16],
            name: "c-1".to_owned(),
            key: "b".to_owned(),
            proof: [4; 32],
        }),
        Frame::Proof([9; 32]),
        Frame::Beat,
        Frame::Revoked { complete: false, pages: vec![page(); 2] },
        Frame::Revoked { complete: true, pages: vec![] },
        Frame::Stream { session, opened: Some(3) },
        Frame::Stream { session, opened: None },
        Frame::Serves("abc123".to_owned()),
        Frame::Heard(None),
        Frame::Heard(Some(0)),
        Frame::Event { number: 1, event: Event::ToolsChanged },
        Frame::Event { number: 2, event: Event::PromptsChanged },
        Frame::Event { number: 3, event: Event::ResourcesChanged },
        Frame::Event { number: 4, event: Event::TaskChanged { id: "x".into(), task: "{}".into() } },
        Frame::Event { number: u64::MAX, event: Event::ResourceUpdated("test://ü".into()) },
        Frame::Ask { number: 8, ask: Ask::Revoke { session, expires: 3 } },
        Frame::Records(vec![(session, record()), (session, Record { level: None, ..record() })]),
        Frame::Cancel { session, id: "\"a\"".to_owned() },
        Frame::Ask { number: 9, ask: Ask::Keep { session, record: record() } },
        Frame::Ask { number: 9, ask: Ask::Change { session, expires: 4, change: Change::Level(LoggingLevel::Emergency) } },
        Frame::Ask { number: 9, ask: Ask::Change { session, expires: 4, change: Change::Subscribe("a:b".into()) } },
        Frame::Ask { number: 9, ask: Ask::Change { session, expires: 4, change: Change::Unsubscribe("a:b".into()) } },
        Frame::Ask { number: 9, ask: Ask::Respond { session, slot: 5, failed: true, outcome: "{}".to_owned() } },
        Frame::Ask { number: 9, ask: Ask::Task("{}".to_owned()) },
        Frame::Answer { number: 9, answer: Answer::Task("{}".to_owned()) },
        Frame::Ask { number: 9, ask: Ask::Resume { session, slot: 1, after: 2, reader: 3, wait_ms: 4 } },
        Frame::Answer {
            number: 9,
            answer: Answer::Events(Batch { reader: 1, after: 2, ended: true, events: "data: ü\n\n".to_owned() }),
        },
        Frame::Answer { number: 8, answer: Answer::Done },
        Frame::Answer { number: 8, answer: Answer::Full },
        Frame::Answer { number: 8, answer: Answer::Unknown },
    ]
}

#[test]
fn every_frame_is_read_as_it_was_written_however_the_bytes_arrive() {
    let mut bytes = Vec::new();
    for frame in frames() {
        frame.encode(&mut bytes);
    }
    let (mut read, mut at) = (Vec::new(), 0);
    for end in 0..=bytes.len() {
        while let Some((frame, length)) = split(&bytes[at..end]).unwrap() {
            read.push(Frame::decode(frame).unwrap());
            at += length;
        }
    }
    assert_eq!(read, frames());
}

#[test]
fn a_frame_that_is_cut_anywhere_is_malformed_and_harms_nothing() {
    for frame in frames() {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        for end in 5..bytes.len() {
            let cut = Frame::decode(&bytes[4..end]);
            assert!(cut.is_err() || cut == Ok(Frame::Unknown), "{frame:?} cut at {end}: {cut:?}");
        }
    }
}

#[test]
fn what_a_newer_version_says_is_skipped_and_what_it_asks_is_answered() {
    assert_eq!(Frame::decode(&[200, 1, 2, 3]), Ok(Frame::Unknown));
    assert_eq!(Frame::decode(&[EVENT, 0, 0, 0, 0, 0, 0, 0, 1, 99, 4]), Ok(Frame::Unknown));
    let asked = Frame::decode(&[ASK, 0, 0, 0, 0, 0, 0, 0, 5, 99, 1, 2]);
    assert_eq!(asked, Ok(Frame::Ask { number: 5, ask: Ask::Unknown }));
    let mut longer = Vec::new();
    Frame::Heard(Some(4)).encode(&mut longer);
    longer.push(1);
    assert_eq!(Frame::decode(&longer[4..]), Ok(Frame::Heard(Some(4))));
}

#[test]
fn lengths_and_counts_out_of_bounds_reserve_nothing() {
    assert!(split(&u32::MAX.to_be_bytes()).is_err());
    assert!(split(&[0; 4]).is_err());
    assert_eq!(split(&[0, 0]), Ok(None));
    let mut pages = vec![REVOKED, 0];
    pages.extend_from_slice(&u32::MAX.to_be_bytes());
    assert!(Frame::decode(&pages).is_err());
}

#[test]
fn as_many_pages_as_may_be_fit_a_frame() {
    let mut bytes = Vec::new();
    Frame::Revoked { complete: false, pages: vec![page(); PAGES_PER_FRAME] }.encode(&mut bytes);
    assert_eq!(split(&bytes).unwrap().map(|(_, length)| length), Some(bytes.len()));
}
