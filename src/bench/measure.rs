//! Taking the samples.
//!
//! All runners and tests take turns: every round runs each of them once, and every other round in reverse, so that a drift of
//! the machine's speed falls on all alike. Before the first round each test runs until two runs in a row agree.

use super::peer::Peer;
use super::timed::{Sample, Test, Timed};
use crate::backend::{Batch, KvCache};
use crate::embed::Embedder;
use crate::engine::Model;
use crate::error::{Error, Result};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// Two runs that differ by less are warm.
const STABLE: f64 = 0.05;
/// The most runs to warm up with, and the time after which none is added.
const WARM_RUNS: usize = 6;
const WARM_TIME: Duration = Duration::from_secs(10);

/// How often, and with which tokens.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Samples of each test.
    pub repetitions: usize,
    /// Whether each test runs untimed until it is stable.
    pub warm_up: bool,
    /// Seed of the random tokens.
    pub seed: u64,
    /// Tokens of a prompt that are read in one forward.
    pub batch: usize,
}

/// The samples of one test on one runner.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Which of the runners.
    pub runner: usize,
    /// What was timed.
    pub test: Test,
    /// When its first sample was taken.
    pub started: SystemTime,
    /// In the order in which they were taken.
    pub samples: Vec<Sample>,
}

impl Measurement {
    /// Tokens per second, a value for each sample.
    pub fn rates(&self) -> Vec<f64> {
        let rate = |sample: &Sample| self.test.tokens() as f64 / sample.time.as_secs_f64().max(1e-9);
        self.samples.iter().map(rate).collect()
    }

    /// Texts per second, a value for each sample; `None` for tests that make no vectors.
    pub fn text_rates(&self) -> Option<Vec<f64>> {
        let rate = |sample: &Sample| self.test.texts as f64 / sample.time.as_secs_f64().max(1e-9);
        (self.test.texts > 0).then(|| self.samples.iter().map(rate).collect())
    }

    /// Median time to the logits of the first new token; `None` for a test without a prompt.
    pub fn first_token(&self) -> Option<Duration> {
        let times: Vec<f64> = self.samples.iter().map(|sample| sample.prompt.as_secs_f64()).collect();
        let wanted = self.test.prompt > 0 && !times.is_empty();
        wanted.then(|| Duration::from_secs_f64(super::summary::median(&times)))
    }
}

/// One of those that take turns in a measurement.
pub enum Runner<'a> {
    /// A loaded model.
    Model(&'a Model),
    /// A loaded model that makes vectors.
    Embedder(&'a Embedder),
    /// Another engine.
    Peer(&'a mut Peer),
}

/// One model with a cache for each depth.
struct Bench<'a> {
    model: &'a Model,
    batch: usize,
    caches: BTreeMap<usize, KvCache>,
    logits: Vec<f32>,
    /// Tokens for the longest test.
    tokens: Vec<u32>,
}

impl Bench<'_> {
    fn read(&mut self, cache: &mut KvCache, tokens: &[u32]) -> Result<()> {
        let network = &self.model.inner().network;
        let last = tokens.len().div_ceil(self.batch);
        for (i, chunk) in tokens.chunks(self.batch).enumerate() {
            let mut batch = Batch::last(chunk);
            if i + 1 < last {
                batch.outputs.clear();
            }
            network.logits(&batch, &mut [cache], &mut self.logits)?;
        }
        Ok(())
    }
}

/// One embedder with its random texts.
struct Vectors<'a> {
    embedder: &'a Embedder,
    tokens: Vec<u32>,
}

impl Timed for Vectors<'_> {
    fn run(&mut self, test: Test) -> Result<Sample> {
        let texts: Vec<&[u32]> = self.tokens.chunks_exact(test.prompt).take(test.texts).collect();
        let start = Instant::now();
        self.embedder.embed_tokens(&texts)?;
        Ok(Sample { time: start.elapsed(), prompt: Duration::ZERO })
    }

    fn warm_up(&mut self, test: Test) -> Result<()> {
        warm_up(self, test)
    }
}

/// Runs `test` until two runs in a row take as long.
fn warm_up(timed: &mut impl Timed, test: Test) -> Result<()> {
    let start = Instant::now();
    let mut before = timed.run(test)?.time;
    for _ in 1..WARM_RUNS {
        if start.elapsed() > WARM_TIME {
            break;
        }
        let time = timed.run(test)?.time;
        let change = time.as_secs_f64() / before.as_secs_f64().max(1e-9) - 1.0;
        if change.abs() < STABLE {
            break;
        }
        before = time;
    }
    Ok(())
}

impl<T: Timed> Timed for &mut T {
    fn run(&mut self, test: Test) -> Result<Sample> {
        (**self).run(test)
    }

    fn warm_up(&mut self, test: Test) -> Result<()> {
        (**self).warm_up(test)
    }
}

impl Timed for Bench<'_> {
    fn run(&mut self, test: Test) -> Result<Sample> {
        let tokens = self.tokens.clone();
        let (before, rest) = tokens.split_at(test.depth);
        let (prompt, rest) = rest.split_at(test.prompt);
        // A cache is made for the longest test, so that all tests of one depth share it.
        let mut cache = match self.caches.remove(&test.depth) {
            Some(cache) => cache,
            None => self.model.inner().network.cache(tokens.len())?,
        };
        cache.truncate(test.depth);
        if cache.len() < test.depth {
            cache.truncate(0);
            self.read(&mut cache, before)?;
        }
        let start = Instant::now();
        self.read(&mut cache, prompt)?;
        let first = start.elapsed();
        for token in &rest[..test.generate] {
            self.read(&mut cache, std::slice::from_ref(token))?;
        }
        let time = start.elapsed();
        self.caches.insert(test.depth, cache);
        Ok(Sample { time, prompt: if test.prompt > 0 { first } else { Duration::ZERO } })
    }

    fn warm_up(&mut self, test: Test) -> Result<()> {
        warm_up(self, test)
    }
}

/// Times every test on every runner, in turn. The measurements come runner by runner, in the order of the tests. `before` is called with runner and
/// test before each sample, for what shall be known of the machine in that moment.
///
/// # Errors
/// [`Error::Input`] for no repetitions or a test without tokens, [`Error::ContextOverflow`] for a test that is longer than
/// a model's context.
pub fn measure(
    runners: Vec<Runner>,
    tests: &[Test],
    plan: Plan,
    before: &mut dyn FnMut(usize, &Test),
) -> Result<Vec<Measurement>> {
    if plan.repetitions == 0 || plan.batch == 0 || tests.iter().any(|test| test.tokens() == 0) {
        return Err(Error::Input("a measurement needs at least one repetition, one token, and one token in a batch".into()));
    }
    let longest = tests.iter().map(|test| test.depth + test.tokens()).max().unwrap_or(0);
    let random = |vocab: usize| {
        let mut random = ChaCha12Rng::seed_from_u64(plan.seed);
        (0..longest).map(|_| (random.next_u64() % vocab as u64) as u32).collect::<Vec<u32>>()
    };
    let vectors = tests.iter().filter(|test| test.texts > 0).count();
    if vectors > 0 && (vectors < tests.len() || tests.iter().any(|test| test.generate + test.depth > 0)) {
        return Err(Error::Input("a measurement is of vectors or of text, not of both".into()));
    }
    let mut timed: Vec<Box<dyn Timed + '_>> = Vec::with_capacity(runners.len());
    for runner in runners {
        timed.push(match runner {
            Runner::Peer(peer) => Box::new(peer),
            Runner::Model(_) if vectors > 0 => {
                return Err(Error::Input("vectors are measured on an embedder, not on a model".into()));
            }
            Runner::Embedder(_) if vectors == 0 => {
                return Err(Error::Input("an embedder is measured by vectors, it writes no text".into()));
            }
            Runner::Embedder(embedder) => Box::new(Vectors { embedder, tokens: random(embedder.spec().vocab) }),
            Runner::Model(model) if longest > model.context() => {
                return Err(Error::ContextOverflow { wanted: longest, limit: model.context() });
            }
            Runner::Model(model) => {
                let tokens = random(model.spec().vocab);
                Box::new(Bench { model, batch: plan.batch, caches: BTreeMap::new(), logits: Vec::new(), tokens })
            }
        });
    }
    let blank = |runner: usize, test: &Test| Measurement {
        runner,
        test: *test,
        started: SystemTime::now(),
        samples: Vec::with_capacity(plan.repetitions),
    };
    let mut all: Vec<Measurement> =
        (0..timed.len()).flat_map(|runner| tests.iter().map(move |test| blank(runner, test))).collect();
    if plan.warm_up {
        for one in &all {
            log::info!("warming up {} on number {}", one.test, one.runner + 1);
            timed[one.runner].warm_up(one.test)?;
        }
    }
    let count = all.len();
    for round in 0..plan.repetitions {
        log::info!("round {} of {}", round + 1, plan.repetitions);
        for i in 0..count {
            let one = &mut all[if round % 2 == 0 { i } else { count - 1 - i }];
            before(one.runner, &one.test);
            if one.samples.is_empty() {
                one.started = SystemTime::now();
            }
            one.samples.push(timed[one.runner].run(one.test)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_have_the_names_that_llama_bench_gives_them() {
        assert_eq!(Test { prompt: 128, generate: 0, depth: 0, texts: 32 }.to_string(), "embed32x128");
        assert_eq!(Test { prompt: 128, generate: 0, depth: 0, texts: 32 }.tokens(), 4096);
        for (prompt, generate, depth, name) in [
            (512, 0, 0, "pp512"),
            (0, 128, 0, "tg128"),
            (512, 128, 0, "pp512+tg128"),
            (512, 0, 512, "pp512 @ d512"),
            (0, 128, 4096, "tg128 @ d4096"),
        ] {
            assert_eq!(Test { prompt, generate, depth, texts: 0 }.to_string(), name);
        }
    }
}
