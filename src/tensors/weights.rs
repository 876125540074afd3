//! The tensors of a model, by name, and the passes that they go through when they are handed over.

use super::names::{self, Names, Orientation};
use super::passes::{Pass, Transpose};
use super::{Form, Stored, by, float_types};
use crate::cancel::Cancel;
use crate::quant;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The tensors of a model.
///
/// Whoever needs certain tensors in an order of its own takes them by name ([`Weights::take`]); whoever wants them all
/// reads the [`Weights::stream`]. Either way a tensor goes through the passes on its way out, and only then.
#[derive(Debug)]
pub struct Weights {
    file: Arc<str>,
    tensors: BTreeMap<String, (Arc<str>, Content)>,
    /// How the names above came about, where they are not the file's own.
    names: Option<Names>,
    passes: Vec<Box<dyn Pass>>,
    /// Ends the taking of tensors.
    cancel: Option<Cancel>,
}

/// What a file has under a name.
#[derive(Debug)]
pub(super) enum Content {
    Readable(Stored),
    /// Of a type that no weight has. Such buffers (masks, position ids) do no harm unless somebody wants their values.
    Foreign {
        dtype: String,
        shape: Vec<usize>,
    },
}

impl Weights {
    /// No tensors yet, of the file or folder `file`.
    pub fn new(file: &str) -> Self {
        Weights { file: file.into(), tensors: BTreeMap::new(), names: None, passes: Vec::new(), cancel: None }
    }

    /// Lets `cancel` end a load: once it is cancelled, [`Weights::take`] is [`Error::Cancelled`].
    pub(crate) fn end_with(&mut self, cancel: Cancel) {
        self.cancel = Some(cancel);
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a second one of the same name.
    pub fn insert(&mut self, tensor: Stored) -> Result<()> {
        let file = self.file.clone();
        self.add(file, tensor.name.clone(), Content::Readable(tensor))
    }

    pub(super) fn add(&mut self, file: Arc<str>, name: String, content: Content) -> Result<()> {
        match self.tensors.entry(name) {
            Entry::Vacant(vacant) => vacant.insert((file, content)),
            Entry::Occupied(entry) => return Err(Error::corrupt(file, format!("tensor {} occurs twice", entry.key()))),
        };
        Ok(())
    }

    /// Adds the tensors of another part of the same model.
    pub(super) fn join(&mut self, part: Weights) -> Result<()> {
        part.tensors.into_iter().try_for_each(|(name, (file, content))| self.add(file, name, content))
    }

    /// Takes out what the file has under `name`, in its file.
    pub(super) fn remove(&mut self, name: &str) -> Option<(Arc<str>, Content)> {
        self.tensors.remove(name)
    }

    /// The same tensors under GGUF's names. Those that `names` does not know keep theirs; matrices that it marks as
    /// transposed are turned when they are handed over.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if two tensors get the same name.
    pub fn renamed(self, names: Names) -> Result<Weights> {
        let mut renamed = Weights { tensors: BTreeMap::new(), names: Some(names), ..Weights::new(&self.file) };
        (renamed.passes, renamed.cancel) = (self.passes, self.cancel);
        let mut is_marked = false;
        for (name, (file, content)) in self.tensors {
            let (name, orientation) = names::gguf_name(names, &name).unwrap_or((name, Orientation::Plain));
            is_marked |= orientation == Orientation::Transposed;
            renamed.add(file, name, content)?;
        }
        if is_marked {
            renamed.through(Transpose::marked_in(names));
        }
        Ok(renamed)
    }

    /// Sends what is handed over from now on through `pass`, behind the passes before it. Returns how many tensors it
    /// gives another form.
    pub fn through(&mut self, pass: impl Pass + 'static) -> usize {
        let changes = |(name, tensor): (&str, &Stored)| {
            let form = self.form_of(name, tensor);
            pass.form(name, tensor, form.clone()) != form
        };
        let count = self.readable().filter(|tensor| changes(*tensor)).count();
        self.passes.push(Box::new(pass));
        count
    }

    /// How the file spells one of our names, for messages.
    fn spelling(&self, name: &str) -> String {
        self.names.and_then(|names| names::stored_name(names, name)).unwrap_or_else(|| name.to_owned())
    }

    /// The file or folder, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Number of tensors that have not been taken.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none, or all have been taken.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The names of the tensors that have not been taken, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is such a tensor, of whatever type.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor of whatever type as the file has it, outermost dimension first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        match &self.tensors.get(name)?.1 {
            Content::Readable(stored) => Some(&stored.shape),
            Content::Foreign { shape, .. } => Some(shape),
        }
    }

    /// A tensor as the file has it; `None` also if it is of a type that can not be read, which [`Weights::contains`] tells
    /// apart.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        match &self.tensors.get(name)?.1 {
            Content::Readable(stored) => Some(stored),
            Content::Foreign { .. } => None,
        }
    }

    fn readable(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.tensors.iter().filter_map(|(name, (_, content))| match content {
            Content::Readable(stored) => Some((name.as_str(), stored)),
            Content::Foreign { .. } => None,
        })
    }

    /// Every tensor that can be read: as the file has it, and the form in which it is handed over.
    pub fn forms(&self) -> impl Iterator<Item = (&Stored, Form)> {
        self.readable().map(|(name, stored)| (stored, self.form_of(name, stored)))
    }

    /// The form that all passes together give a tensor.
    fn form_of(&self, name: &str, stored: &Stored) -> Form {
        self.passes.iter().fold(stored.form(), |form, pass| pass.form(name, stored, form))
    }

    /// Hands over the tensor `name`, which must have `shape` (outermost dimension first) and hold numbers only.
    ///
    /// The search for NaN and infinity reads all values of a float tensor, but only the scales of a quantised one: with
    /// finite scales every value is finite. Whoever takes a tensor is about to read it, so this mostly warms the cache.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a tensor that is missing, of another shape or not finite, [`Error::Unsupported`] for one of a
    /// type that can not be read, and those of the passes. The tensor stays where it is.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Stored> {
        self.cancel.as_ref().map_or(Ok(()), Cancel::check)?;
        let (file, tensor) = self.find(name, shape)?;
        let turned = self.form_of(name, &tensor).shape;
        if turned != shape {
            let read = if turned == tensor.shape { String::new() } else { format!(", read as {}", by(&turned)) };
            let why = format!("tensor {} is {}{read}, expected {}", self.spelling(name), by(&tensor.shape), by(shape));
            return Err(Error::corrupt(&file, why));
        }
        let taken = self.pass(&file, name, tensor)?;
        self.tensors.remove(name);
        Ok(taken)
    }

    /// Hands over every tensor that can be read, one after the other in the order of their names. The tensors of experts
    /// that a file holds as one stay one.
    ///
    /// An item is an error as in [`Weights::take`]; the stream goes on behind it.
    pub fn stream(mut self) -> impl Iterator<Item = Result<(String, Stored)>> {
        std::iter::from_fn(move || {
            loop {
                let (name, (file, content)) = self.tensors.pop_first()?;
                if let Content::Readable(tensor) = content {
                    return Some(self.pass(&file, &name, tensor).map(|tensor| (name, tensor)));
                }
            }
        })
    }

    /// The way out of every tensor: its elements are finite, and it has gone through the passes.
    fn pass(&self, file: &str, name: &str, tensor: Stored) -> Result<Stored> {
        if let Some(element) = quant::first_non_finite(tensor.dtype, &tensor.data) {
            let place = if tensor.dtype.is_quantised() { "in the block at" } else { "at" };
            let why = format!("tensor {} holds NaN or infinity {place} element {element}", self.spelling(name));
            return Err(Error::corrupt(file, why));
        }
        self.passes.iter().try_fold(tensor, |tensor, pass| pass.apply(name, tensor))
    }

    /// A tensor and its file; of an expert the part of the tensor that holds all of a layer.
    fn find(&self, name: &str, shape: &[usize]) -> Result<(Arc<str>, Stored)> {
        if let Some(tensor) = self.expert(name, shape)? {
            return Ok((self.file.clone(), tensor));
        }
        match self.tensors.get(name) {
            Some((file, Content::Readable(stored))) => Ok((file.clone(), stored.clone())),
            Some((file, Content::Foreign { shape: stored, .. })) if stored != shape => {
                let why = format!("tensor {} is {}, expected {}", self.spelling(name), by(stored), by(shape));
                Err(Error::corrupt(file, why))
            }
            Some((file, Content::Foreign { dtype, .. })) => {
                let what = format!("{file}: tensor {} of type {dtype}", self.spelling(name));
                Err(Error::unsupported(what, float_types()))
            }
            None => Err(Error::corrupt(&self.file, format!("tensor {} is missing", self.spelling(name)))),
        }
    }

    /// A tensor of one expert, `blk.0.ffn_up.3.weight`, where the file has those of all experts as one, `blk.0.ffn_up_exps.weight`.
    fn expert(&self, name: &str, shape: &[usize]) -> Result<Option<Stored>> {
        let number = |part: &str| part.parse::<usize>().ok();
        let parts = name.strip_suffix(".weight").and_then(|stem| stem.rsplit_once('.'));
        let Some((stem, expert)) = parts.and_then(|(stem, last)| Some((stem, number(last)?))) else { return Ok(None) };
        let Some(all) = self.get(&format!("{stem}_exps.weight")) else { return Ok(None) };
        if all.shape.len() != 3 || all.shape[1..] != *shape || expert >= all.shape[0] {
            let why = format!("tensor {} is {}, expected experts of {}", all.name, by(&all.shape), by(shape));
            return Err(Error::corrupt(&self.file, why));
        }
        let bytes = all.data.len() / all.shape[0];
        let data = all.data.slice(expert * bytes..(expert + 1) * bytes).expect("the range lies within the tensor's bytes");
        Ok(Some(Stored { name: name.to_owned(), dtype: all.dtype, shape: shape.to_vec(), data }))
    }

    /// Hands over a vector of `len` values, widened.
    pub fn take_vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        Ok(self.take(name, &[len])?.to_f32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Dtype;
    use crate::tensors::Requantise;

    fn stored(name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Stored {
        Stored { name: name.into(), dtype, shape: shape.into(), data: data.into() }
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn weights(tensors: impl IntoIterator<Item = Stored>) -> Weights {
        let mut weights = Weights::new("model.gguf");
        tensors.into_iter().for_each(|t| weights.insert(t).unwrap());
        weights
    }

    #[test]
    fn a_taken_tensor_is_gone_and_its_neighbours_are_not() {
        let mut weights =
            weights([stored("a", Dtype::F32, &[2, 1], floats(&[1.0, -2.0])), stored("b", Dtype::F32, &[1], floats(&[3.0]))]);
        let a = weights.take("a", &[2, 1]).unwrap();
        assert_eq!(a.to_f32(), [1.0, -2.0]);
        assert_eq!(weights.names().collect::<Vec<_>>(), ["b"]);
        assert_eq!(weights.take("a", &[2, 1]).unwrap_err().to_string(), "model.gguf: tensor a is missing");
    }

    #[test]
    fn a_misshapen_tensor_is_an_error_and_stays() {
        let mut weights = weights([stored("blk.0.attn_q.weight", Dtype::F32, &[2, 2], floats(&[0.0; 4]))]);
        let error = weights.take("blk.0.attn_q.weight", &[2, 3]).unwrap_err();
        assert_eq!(error.to_string(), "model.gguf: tensor blk.0.attn_q.weight is 2x2, expected 2x3");
        assert!(weights.contains("blk.0.attn_q.weight"));
    }

    #[test]
    fn nan_and_infinite_weights_are_errors_that_name_the_tensor() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 5000];
            values[4321] = bad;
            let mut weights = weights([stored("norm", Dtype::F32, &[5000], floats(&values))]);
            let error = weights.take("norm", &[5000]).unwrap_err();
            assert_eq!(error.to_string(), "model.gguf: tensor norm holds NaN or infinity at element 4321");
        }
        let mut block = vec![0u8; 3 * 20];
        block[43] = 0x7E; // the high byte of the third block's minimum
        let mut weights = weights([stored("w", Dtype::Q4_1, &[96], block)]);
        let error = weights.take("w", &[96]).unwrap_err();
        assert_eq!(error.to_string(), "model.gguf: tensor w holds NaN or infinity in the block at element 64");
    }

    #[test]
    fn a_cancelled_load_ends_before_the_next_tensor() {
        let mut weights = weights(["a", "b"].map(|name| stored(name, Dtype::F32, &[1], floats(&[1.0]))));
        let cancel = Cancel::default();
        weights.end_with(cancel.clone());
        assert!(weights.take("a", &[1]).is_ok());
        cancel.cancel();
        assert!(matches!(weights.take("b", &[1]), Err(Error::Cancelled)));
    }

    #[test]
    fn a_second_tensor_of_the_same_name_is_an_error() {
        let mut weights = weights([stored("a", Dtype::F32, &[1], floats(&[1.0]))]);
        let error = weights.insert(stored("a", Dtype::F32, &[1], floats(&[1.0]))).unwrap_err();
        assert_eq!(error.to_string(), "model.gguf: tensor a occurs twice");
    }

    #[test]
    fn a_turned_matrix_of_the_wrong_size_is_told_as_the_file_has_it_and_as_it_is_read() {
        let tensor = stored("transformer.h.0.attn.c_attn.weight", Dtype::F32, &[2, 6], floats(&[0.0; 12]));
        let mut weights = weights([tensor]).renamed(names::GPT2).unwrap();
        assert_eq!(
            weights.take("blk.0.attn_qkv.weight", &[6, 3]).unwrap_err().to_string(),
            "model.gguf: tensor h.0.attn.c_attn.weight is 2x6, read as 6x2, expected 6x3"
        );
        assert_eq!(weights.take("blk.0.attn_qkv.weight", &[6, 2]).unwrap().shape, [6, 2]);
    }

    /// What a file of every kind gives: by name as a loader takes it, and as a stream.
    #[test]
    fn the_stream_hands_over_what_a_loader_takes_through_the_same_passes() {
        for (case, names) in [("gpt2-prefixed", names::GPT2), ("llama-mha", names::LLAMA)] {
            let open = || {
                let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
                let mut weights = crate::tensors::safetensors::open(folder).unwrap().renamed(names).unwrap();
                assert!(weights.through(Requantise::to(Dtype::Q8_0).unwrap()) > 0);
                weights
            };
            let (mut loader, expected) = (open(), open().forms().map(|(_, form)| form).collect::<Vec<_>>());
            let mut forms = Vec::new();
            for tensor in open().stream() {
                let (name, streamed) = tensor.unwrap();
                let taken = loader.take(&name, &streamed.shape).unwrap();
                assert_eq!((streamed.dtype, &*streamed.data), (taken.dtype, &*taken.data), "{case}: {name}");
                forms.push(streamed.form());
            }
            assert_eq!(forms, expected, "{case}: a tensor's form is known before it is converted");
            assert_eq!(loader.forms().count(), 0, "{case}");
        }
    }

    #[test]
    fn a_stream_tells_of_a_tensor_that_is_not_finite_and_goes_on() {
        let tensors = [("a", 1.0), ("b", f32::NAN), ("c", 2.0)].map(|(name, x)| stored(name, Dtype::F32, &[1], floats(&[x])));
        let items: Vec<_> =
            weights(tensors).stream().map(|item| item.map(|(name, _)| name).map_err(|e| e.to_string())).collect();
        let error = "model.gguf: tensor b holds NaN or infinity at element 0".to_owned();
        assert_eq!(items, [Ok("a".to_owned()), Err(error), Ok("c".to_owned())]);
    }
}
