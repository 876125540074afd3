//! What the loop's step must carry: proposals, prompts in parts beside others, rows, failures, and many members.

use super::*;
use crate::backend::{Input, InputRow};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// Prefers the token after the last one, remembers how many rows each forward read of each text, and fails when told to.
#[derive(Default)]
struct Log {
    forwards: Mutex<Vec<Vec<usize>>>,
    fails: AtomicBool,
}

struct Logged {
    spec: Spec,
    log: Arc<Log>,
}

impl Forward for Logged {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache(&self, limit: usize) -> Result<KvCache> {
        Ok(KvCache::new(Vec::new(), limit))
    }

    fn hidden(&self, _: &Batch, _: &mut [&mut KvCache], _: &mut Vec<f32>) -> Result<()> {
        unreachable!("the loop asks for logits")
    }

    fn logits(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()> {
        if self.log.fails.load(Ordering::Relaxed) {
            return Err(Error::Input("told to fail".into()));
        }
        self.log.forwards.lock().unwrap().push((0..batch.sequences()).map(|i| batch.rows(i).len()).collect());
        for (i, cache) in caches.iter_mut().enumerate() {
            cache.reserve(batch.rows(i).len())?;
            cache.advance(batch.rows(i).len());
        }
        out.clear();
        for row in &batch.outputs {
            let next = (batch.tokens[*row] as usize + 1) % self.spec.vocab;
            out.extend((0..self.spec.vocab).map(|t| if t == next { 9.0 } else { 0.0 }));
        }
        Ok(())
    }
}

fn logged(context: usize) -> (Model, Arc<Log>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama-gqa-tied");
    let options = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let real = crate::Checkpoint::open(folder.to_str().unwrap()).unwrap().load(&options).unwrap();
    let log = Arc::new(Log::default());
    let network = Logged { spec: real.network.spec().clone(), log: log.clone() };
    (Model::from_inner(Loaded { network: Box::new(network), context, end_ids: vec![400], ..real }), log)
}

impl Log {
    fn take(&self) -> Vec<Vec<usize>> {
        std::mem::take(&mut self.forwards.lock().unwrap())
    }
}

/// Runs `batch` to its end; a list of tokens for each of `numbers`.
fn run(batch: &mut GenerateBatch, numbers: &[usize]) -> Vec<Vec<u32>> {
    while batch.running() > 0 {
        batch.step().unwrap().into_iter().for_each(|(_, piece)| drop(piece.unwrap()));
    }
    numbers.iter().map(|number| batch.tokens(*number).unwrap().to_vec()).collect()
}

#[test]
fn proposed_tokens_are_read_together_and_those_that_are_not_chosen_leave_no_trace() {
    // Right, wrong from some place on, too many, and nonsense.
    for (wrong_at, forwards) in [(usize::MAX, 3), (2, 7), (0, 19)] {
        let (model, log) = logged(64);
        let mut session = model.session().unwrap();
        let mut generation = session.generate_tokens(&[10, 11], &greedy(20)).unwrap();
        generation.writer().propose_with(Box::new(move |history| {
            let next = history.last().unwrap() + 1;
            (0..12).map(|i| next + i + if i as usize >= wrong_at { 7 } else { 0 }).collect()
        }));
        log.take();
        assert_eq!(tokens(&mut generation), (12..32).collect::<Vec<u32>>());
        assert_eq!((generation.done_reason(), generation.usage().tokens), (Some(DoneReason::Length), 20));
        let read = log.take();
        assert!(read.len() <= forwards, "{read:?}");
        assert_eq!(session.tokens(), (10..32).collect::<Vec<u32>>());
        // The text goes on as if nothing had been proposed.
        assert_eq!(tokens(&mut session.generate_tokens(&[], &greedy(2)).unwrap()), [32, 33]);
    }
}

#[test]
fn proposals_end_where_the_text_does() {
    let propose = |generation: &mut Generation<'_>| {
        generation.writer().propose_with(Box::new(|history| (1..99).map(|i| history.last().unwrap() + i).collect()));
    };
    let (model, _) = logged(64);
    // The end token is among the proposals.
    let mut session = model.session().unwrap();
    let mut generation = session.generate_tokens(&[390], &greedy(30)).unwrap();
    propose(&mut generation);
    assert_eq!(tokens(&mut generation), (391..400).collect::<Vec<u32>>());
    assert_eq!(generation.done_reason(), Some(DoneReason::Stop));
    assert_eq!(session.tokens(), (390..400).collect::<Vec<u32>>());
    // So is the end of the context.
    session.reset();
    let endless = GenerateOptions { max_tokens: None, ..greedy(1) };
    let mut generation = session.generate_tokens(&[1, 2, 3], &endless).unwrap();
    propose(&mut generation);
    assert_eq!(tokens(&mut generation).len(), 61);
    // So is a stop string.
    let all = model.session().unwrap().generate_tokens(&[39], &greedy(8)).unwrap().text().unwrap();
    let middle = all[3..5].to_owned();
    let options = GenerateOptions { stop: vec![middle.clone()], ..greedy(8) };
    let alone = {
        let mut session = model.session().unwrap();
        session.generate_tokens(&[39], &options).unwrap().text().unwrap();
        session.tokens()
    };
    let mut session = model.session().unwrap();
    let mut generation = session.generate_tokens(&[39], &options).unwrap();
    propose(&mut generation);
    assert_eq!(generation.text().unwrap(), all[..all.find(&middle).unwrap()]);
    drop(generation);
    assert_eq!(session.tokens(), alone);
}

#[test]
fn proposals_change_no_bit_of_a_real_text_with_windows_and_with_two_ways_of_rotating() {
    for name in ["gemma3-text", "mistral-window8", "phi3-longrope", "llama-gqa-tied"] {
        for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
            let model = golden(name, device);
            let options = GenerateOptions { logprobs: Some(2), ignore_eos: true, seed: Some(3), ..greedy(60) };
            let options = GenerateOptions { sampling: SampleOptions::default(), ..options };
            let prompt = noise(20);
            let pieces = |propose: Option<crate::engine::writer::Proposer>| -> Vec<Piece> {
                let mut session = model.session().unwrap();
                let mut generation = session.generate_tokens(&prompt, &options).unwrap();
                propose.into_iter().for_each(|propose| generation.writer().propose_with(propose));
                generation.map(Result::unwrap).collect()
            };
            let alone = pieces(None);
            let text: Vec<u32> = prompt.iter().copied().chain(alone.iter().filter_map(|piece| piece.token)).collect();
            // Two that are right and three that are not.
            let with = pieces(Some(Box::new(move |history| {
                let next = text[history.len()..].iter().copied().take(2);
                next.chain([5, 6, 7]).collect()
            })));
            let of = |pieces: &[Piece]| -> Vec<(Option<u32>, String)> {
                pieces.iter().map(|piece| (piece.token, piece.text.clone())).collect()
            };
            assert_eq!(of(&with), of(&alone), "{name} on {device}");
            if device == DeviceChoice::Cpu {
                assert_eq!(with, alone, "{name}");
            }
        }
    }
}

#[test]
fn a_prompt_is_read_in_parts_while_others_are_written_and_each_text_is_as_it_would_be_alone() {
    let (model, log) = logged(4096);
    let long: Vec<Message> = vec![Message::user("The river runs north. ".repeat(150))];
    let alone = tokens(&mut model.session().unwrap().chat(&long, &greedy(5)).unwrap());
    let mut batch = model.generate_batch();
    let short = [batch.join("x", &greedy(300)).unwrap(), batch.join("It ends", &greedy(300)).unwrap()];
    batch.step().unwrap();
    log.take();
    let number = batch.join_chat(model.session().unwrap(), &long, &greedy(5)).unwrap();
    assert!(log.take().is_empty(), "joining reads nothing");
    let prompt = batch.usage(number).unwrap().prompt_tokens;
    let mut written = 1;
    while batch.tokens(number).unwrap().is_empty() {
        batch.step().unwrap();
        written += 1;
        assert!(short.iter().all(|number| batch.tokens(*number).unwrap().len() == written), "the others go on");
    }
    let read = log.take();
    assert!(read.len() > 3 && read[..2].iter().all(|rows| rows[..2] == [1, 1]), "{read:?}");
    assert!(read[0].len() == 2 && read[1][2] <= 16, "a step is measured, then a small part is read: {read:?}");
    assert_eq!(read.iter().filter_map(|rows| rows.get(2)).sum::<usize>(), prompt);
    assert_eq!(run(&mut batch, &[number]), [alone]);
}

#[test]
fn a_forward_that_fails_changes_no_text_and_the_next_step_goes_on() {
    let (model, log) = logged(4096);
    let options = |i: usize| greedy([6, 9, 4][i]);
    let prompts = ["The river", "x", "It ends"];
    let alone: Vec<_> =
        (0..3).map(|i| tokens(&mut model.session().unwrap().generate(prompts[i], &options(i)).unwrap())).collect();
    let mut batch = model.generate_batch();
    for (i, prompt) in prompts.iter().enumerate() {
        // One joins while the forward fails: its prompt waits.
        log.fails.store(i == 2, Ordering::Relaxed);
        batch.join(prompt, &options(i)).unwrap();
        assert_eq!(batch.step().is_err(), i == 2);
    }
    assert!(batch.step().is_err());
    log.fails.store(false, Ordering::Relaxed);
    assert_eq!(run(&mut batch, &[0, 1, 2]), alone);
}

#[test]
fn a_text_of_a_batch_can_be_cancelled_while_its_prompt_is_read() {
    let (model, log) = logged(4096);
    let cancel = Cancel::default();
    let long = [Message::user("The river runs north. ".repeat(150))];
    let mut batch = model.generate_batch();
    batch.join("x", &greedy(300)).unwrap();
    batch.step().unwrap();
    let options = GenerateOptions { cancel: Some(cancel.clone()), ..greedy(5) };
    let number = batch.join_chat(model.session().unwrap(), &long, &options).unwrap();
    log.take();
    while log.take().iter().all(|rows| rows.len() < 2) {
        batch.step().unwrap();
    }
    cancel.cancel();
    batch.step().unwrap();
    assert_eq!((batch.done_reason(number), batch.running()), (Some(DoneReason::Cancelled), 1));
    assert!(batch.tokens(number).unwrap().is_empty());
    // What was read is not read again.
    let mut session = batch.leave(number).unwrap();
    let held = session.tokens().len();
    assert!(held > 0);
    assert_eq!(session.chat(&long, &greedy(1)).unwrap().usage().cached_tokens, held);
}

#[test]
fn rows_share_a_cached_prefix_only_if_their_numbers_are_the_same() {
    let (model, log) = logged(64);
    let dim = model.spec().dim;
    let image = |shade: f32| (0..4).map(move |i| Input::Row(InputRow::new(vec![shade + i as f32; dim])));
    let prompt = |shade: f32| [Input::Token(7)].into_iter().chain(image(shade)).chain([Input::Token(9)]).collect::<Vec<_>>();
    let mut session = model.session().unwrap();
    let mut cached = |inputs: &[Input]| {
        session.reset_to(inputs);
        let usage = session.generate_inputs(&[], &greedy(1)).unwrap().usage();
        (usage.cached_tokens, usage.prompt_tokens)
    };
    assert_eq!(cached(&prompt(0.5)), (0, 6));
    assert_eq!(cached(&prompt(0.5)), (5, 6), "the same image, made anew");
    assert_eq!(cached(&prompt(0.25)), (1, 6), "another image");
    let mixed: Vec<Input> = prompt(0.25)[..3].iter().cloned().chain(image(0.75)).collect();
    assert_eq!(cached(&mixed), (3, 7), "another image from its third row on");
    assert_eq!(log.take().iter().flatten().sum::<usize>(), 6 + 1 + 5 + 4);
    let narrow = [Input::Row(InputRow::new(vec![1.0; dim - 1]))];
    let error = session.generate_inputs(&narrow, &greedy(1)).err().unwrap().to_string();
    assert!(error.contains(&format!("{} numbers, expected {dim}", dim - 1)), "{error}");
}

#[test]
fn a_hundred_thousand_texts_that_came_and_went_leave_nothing_behind() {
    let (model, _) = logged(64);
    let mut batch = model.generate_batch();
    let staying = batch.join("It ends", &GenerateOptions { max_tokens: None, ..greedy(1) }).unwrap();
    let mut pass = |count: usize| {
        let clock = std::time::Instant::now();
        for _ in 0..count {
            let number = batch.join("x", &greedy(1)).unwrap();
            assert!(batch.leave(number).is_some() && batch.leave(number).is_none());
        }
        let joins = clock.elapsed();
        assert_eq!(batch.members(), 1);
        let clock = std::time::Instant::now();
        (0..50).for_each(|_| drop(batch.step().unwrap()));
        (joins, clock.elapsed())
    };
    let (first, last) = (pass(1_000), pass(99_000));
    eprintln!("1,000 joins {:?}, 50 steps {:?}; then 99,000 joins {:?}, 50 steps {:?}", first.0, first.1, last.0, last.1);
    // Numbers are never given twice.
    assert_eq!(batch.join("x", &greedy(1)).unwrap(), 100_001);
    assert_eq!(batch.done_reason(staying), Some(DoneReason::Length));
}

#[test]
#[ignore = "measures: cargo test --release --lib joining_with_a_long_prompt -- --ignored --nocapture"]
fn joining_with_a_long_prompt_keeps_the_others_waiting_about_twice_as_long() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let model = Model::load_with(file.to_str().unwrap(), &LoadOptions::default()).unwrap();
    let options = GenerateOptions { ignore_eos: true, ..greedy(4000) };
    let prompt = "word ".repeat(1999);
    // What it was: the prompt read at once, while the others wait.
    let clock = std::time::Instant::now();
    let tokens = model.session().unwrap().generate(&prompt, &options).unwrap().usage().prompt_tokens;
    let at_once = clock.elapsed();
    let mut batch = model.generate_batch();
    (0..7).for_each(|_| assert!(batch.join("The sea is", &options).is_ok()));
    let step = |batch: &mut GenerateBatch| {
        let clock = std::time::Instant::now();
        batch.step().unwrap();
        clock.elapsed().as_secs_f64() * 1e3
    };
    let mut usual: Vec<f64> = (0..40).map(|_| step(&mut batch)).collect();
    let number = batch.join(&prompt, &options).unwrap();
    let mut pauses = Vec::new();
    while batch.tokens(number).unwrap().is_empty() {
        pauses.push(step(&mut batch));
    }
    let total: f64 = pauses.iter().sum();
    usual.sort_by(f64::total_cmp);
    pauses.sort_by(f64::total_cmp);
    let (usual, steps) = (usual[usual.len() / 2], pauses.len());
    let (median, longest) = (pauses[steps / 2], pauses[steps - 1]);
    eprintln!("a prompt of {tokens} tokens at once: {:.0} ms, which the others waited", at_once.as_secs_f64() * 1e3);
    eprintln!(
        "now {steps} steps in {total:.0} ms: median {median:.1} ms, 99 % {:.1}, longest {longest:.1}",
        pauses[steps * 99 / 100]
    );
    eprintln!("a step without a prompt: {usual:.1} ms; {:.2} times that in the median", median / usual);
    assert!(longest < at_once.as_secs_f64() * 1e3 / 4.0);
}
