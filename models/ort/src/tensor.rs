//! Tensors that cross thread boundaries without copies.

use std::{borrow::Cow, fmt, sync::Arc};

use half::f16;
use ort::{
    memory::Allocator,
    value::{DynTensor, TensorElementType},
};

use crate::OrtError;

/// Element types that models here are fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 64-bit integer.
    I64,
    /// One byte per truth value.
    Bool,
}

impl Element {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I64 => 8,
            Self::Bool => 1,
        }
    }

    pub(crate) fn from_ort(element: TensorElementType) -> Option<Self> {
        match element {
            TensorElementType::Float32 => Some(Self::F32),
            TensorElementType::Float16 => Some(Self::F16),
            TensorElementType::Int64 => Some(Self::I64),
            TensorElementType::Bool => Some(Self::Bool),
            _ => None,
        }
    }

    pub(crate) fn to_ort(self) -> TensorElementType {
        match self {
            Self::F32 => TensorElementType::Float32,
            Self::F16 => TensorElementType::Float16,
            Self::I64 => TensorElementType::Int64,
            Self::Bool => TensorElementType::Bool,
        }
    }
}

/// An immutable tensor in host memory. Cloning is cheap; an output of one run is an input of the next without a copy.
#[derive(Clone)]
pub struct Tensor(Arc<DynTensor>);

impl Tensor {
    /// A tensor of `shape` with `data` in row-major order.
    ///
    /// # Errors
    /// [`OrtError::Run`] when the length of `data` is not that of `shape`.
    pub fn from_f32(shape: &[usize], data: Vec<f32>) -> Result<Self, OrtError> {
        Self::owned(shape, data)
    }

    /// A tensor of `shape` with `data` in row-major order, rounded to 16 bits.
    ///
    /// # Errors
    /// As [`Tensor::from_f32`].
    pub fn from_f32_as_f16(shape: &[usize], data: &[f32]) -> Result<Self, OrtError> {
        Self::owned(shape, data.iter().copied().map(f16::from_f32).collect())
    }

    /// A tensor of `shape` with `data` in row-major order. An empty shape is a scalar.
    ///
    /// # Errors
    /// As [`Tensor::from_f32`].
    pub fn from_i64(shape: &[usize], data: Vec<i64>) -> Result<Self, OrtError> {
        Self::owned(shape, data)
    }

    /// A tensor of `shape` with `data` in row-major order.
    ///
    /// # Errors
    /// As [`Tensor::from_f32`].
    pub fn from_bool(shape: &[usize], data: Vec<bool>) -> Result<Self, OrtError> {
        Self::owned(shape, data)
    }

    /// A tensor without elements: `shape` has a zero.
    ///
    /// # Errors
    /// [`OrtError::Run`] when the shape has no zero, [`OrtError::OutOfMemory`] from the allocator.
    pub fn empty(element: Element, shape: &[usize]) -> Result<Self, OrtError> {
        if !shape.contains(&0) {
            return Err(shape_error(shape, 0));
        }
        let tensor = DynTensor::new(&Allocator::default(), element.to_ort(), shape.to_vec());
        Ok(Self(Arc::new(
            tensor.map_err(|error| OrtError::run("tensor", &error))?,
        )))
    }

    /// A tensor of `shape` with the elements that `data` has as bytes, in row-major order.
    ///
    /// # Errors
    /// [`OrtError::Run`] when the length of `data` is not that of `shape`, [`OrtError::OutOfMemory`] from the allocator.
    pub fn from_bytes(element: Element, shape: &[usize], data: &[u8]) -> Result<Self, OrtError> {
        if shape.iter().product::<usize>() * element.size() != data.len() {
            return Err(shape_error(shape, data.len()));
        }
        let mut tensor = DynTensor::new(&Allocator::default(), element.to_ort(), shape.to_vec())
            .map_err(|error| OrtError::run("tensor", &error))?;
        if !data.is_empty() {
            copy_in(&mut tensor, data);
        }
        Ok(Self(Arc::new(tensor)))
    }

    /// The elements as they lie in memory, in row-major order.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        bytes_of(&self.0, self.bytes())
    }

    fn owned<T>(shape: &[usize], data: Vec<T>) -> Result<Self, OrtError>
    where
        T: ort::value::PrimitiveTensorElementType + fmt::Debug + Clone + 'static,
    {
        if shape.iter().product::<usize>() != data.len() {
            return Err(shape_error(shape, data.len()));
        }
        let tensor = ort::value::Tensor::from_array((shape.to_vec(), data));
        Ok(Self(Arc::new(
            tensor.map_err(|error| OrtError::run("tensor", &error))?.upcast(),
        )))
    }

    pub(crate) fn from_output(value: ort::value::DynValue) -> ort::Result<Self> {
        Ok(Self(Arc::new(value.downcast()?)))
    }

    pub(crate) fn value(&self) -> &DynTensor {
        &self.0
    }

    /// Sizes of the axes.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        self.0
            .shape()
            .iter()
            .map(|&size| usize::try_from(size).unwrap_or(0))
            .collect()
    }

    /// Element type; `None` for one that is not of [`Element`].
    #[must_use]
    pub fn element(&self) -> Option<Element> {
        Element::from_ort(*self.0.data_type())
    }

    /// Bytes of the elements.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shape().iter().product::<usize>() * self.element().map_or(0, Element::size)
    }

    /// The elements of a float tensor; 16-bit ones are widened into a copy.
    ///
    /// # Errors
    /// [`OrtError::Run`] for another element type.
    pub fn to_f32(&self) -> Result<Cow<'_, [f32]>, OrtError> {
        let error = |error: ort::Error| OrtError::run("tensor", &error);
        if self.element() == Some(Element::F16) {
            let (_, halves) = self.0.try_extract_tensor::<f16>().map_err(error)?;
            return Ok(Cow::Owned(halves.iter().map(|half| half.to_f32()).collect()));
        }
        Ok(Cow::Borrowed(
            self.0.try_extract_tensor::<f32>().map_err(error)?.1,
        ))
    }

    /// The elements of a tensor of 32-bit floats.
    #[must_use]
    pub fn as_f32(&self) -> Option<&[f32]> {
        self.0.try_extract_tensor::<f32>().ok().map(|(_, values)| values)
    }

    /// The first `len` entries along `axis`, copied. The tensor itself when it has no more.
    ///
    /// # Errors
    /// [`OrtError::Run`] for an axis that is not there or an element type without floats.
    pub fn head(&self, axis: usize, len: usize) -> Result<Self, OrtError> {
        let shape = self.shape();
        let Some(&size) = shape.get(axis) else {
            return Err(shape_error(&shape, axis));
        };
        if len >= size {
            return Ok(self.clone());
        }
        let mut cut = shape.clone();
        cut[axis] = len;
        let error = |error: ort::Error| OrtError::run("tensor", &error);
        match self.element() {
            Some(element) if len == 0 => Self::empty(element, &cut),
            Some(Element::F16) => {
                let (_, data) = self.0.try_extract_tensor::<f16>().map_err(error)?;
                Self::owned(&cut, head(data, &shape, axis, len))
            }
            _ => {
                let (_, data) = self.0.try_extract_tensor::<f32>().map_err(error)?;
                Self::owned(&cut, head(data, &shape, axis, len))
            }
        }
    }
}

#[expect(unsafe_code, reason = "the safe layer names an element type")]
fn bytes_of(tensor: &DynTensor, len: usize) -> &[u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: tensors here lie in host memory, `len` is their size, and they live as long as the borrow.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), len) }
}

#[expect(unsafe_code, reason = "the safe layer names an element type")]
fn copy_in(tensor: &mut DynTensor, data: &[u8]) {
    // SAFETY: the tensor was allocated in host memory with the size of `data`, and nobody else has it.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), tensor.data_ptr_mut().cast(), data.len()) };
}

fn head<T: Copy>(data: &[T], shape: &[usize], axis: usize, len: usize) -> Vec<T> {
    let inner: usize = shape[axis + 1..].iter().product();
    let block = shape[axis] * inner;
    data.chunks_exact(block)
        .flat_map(|block| &block[..len * inner])
        .copied()
        .collect()
}

fn shape_error(shape: &[usize], len: usize) -> OrtError {
    OrtError::Run {
        session: "tensor".into(),
        why: format!("shape {shape:?} does not fit {len}"),
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?} {:?})", self.0.data_type(), self.shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_cuts_the_middle_axis() {
        let data: Vec<i32> = (0..24).collect();
        assert_eq!(
            head(&data, &[2, 3, 4], 1, 2),
            [0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 16, 17, 18, 19]
        );
    }
}
