//! A sequence: a tree of arrays, 32 to a node, as high as its length wants it.

use std::sync::Arc;

use arrayvec::ArrayVec;

/// A sequence that grows at its end; see [the module](super).
#[derive(Clone, Debug)]
pub(crate) struct PersistentVec<T> {
    /// The tree; `None`: nothing is in it.
    root: Option<Node<T>>,
    /// How many levels of branches stand above the leaves.
    height: u32,
    /// How many elements there are.
    length: usize,
}

/// A part of the tree.
#[derive(Clone, Debug)]
enum Node<T> {
    /// Elements.
    Leaf(Arc<ArrayVec<T, WIDTH>>),
    /// Nodes of the level below, all full but the last.
    Branch(Arc<ArrayVec<Self, WIDTH>>),
}

impl<T> Default for PersistentVec<T> {
    fn default() -> Self {
        Self {
            root: None,
            height: 0,
            length: 0,
        }
    }
}

impl<T> PersistentVec<T> {
    /// How many elements there are.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// The element at this index.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        if index >= self.length {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut shift = self.height * BITS;
        loop {
            match node {
                Node::Branch(children) => node = children.get(digit(index, shift))?,
                Node::Leaf(elements) => return elements.get(digit(index, 0)),
            }
            shift = shift.saturating_sub(BITS);
        }
    }

    /// Every element, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.length)
            .step_by(WIDTH)
            .flat_map(|first| self.leaf(first))
    }

    /// The elements of the leaf that holds this index.
    fn leaf(&self, index: usize) -> &[T] {
        let mut node = self.root.as_ref();
        let mut shift = self.height * BITS;
        while let Some(Node::Branch(children)) = node {
            node = children.get(digit(index, shift));
            shift = shift.saturating_sub(BITS);
        }
        match node {
            Some(Node::Leaf(elements)) => elements,
            _ => &[],
        }
    }
}

impl<T: Clone> PersistentVec<T> {
    /// The element at this index, to be changed.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.length {
            return None;
        }
        let mut node = self.root.as_mut()?;
        let mut shift = self.height * BITS;
        loop {
            match node {
                Node::Branch(children) => {
                    node = Arc::make_mut(children).get_mut(digit(index, shift))?;
                }
                Node::Leaf(elements) => {
                    return Arc::make_mut(elements).get_mut(digit(index, 0));
                }
            }
            shift = shift.saturating_sub(BITS);
        }
    }

    /// Appends an element.
    pub(crate) fn push(&mut self, element: T) {
        let (index, height) = (self.length, self.height);
        self.length += 1;
        let Some(root) = &mut self.root else {
            self.root = Some(Node::around(element, 0));
            return;
        };
        if index >> ((height + 1) * BITS) > 0 {
            // The tree is full: another level.
            let children = [root.clone(), Node::around(element, height)];
            *root = Node::Branch(Arc::new(children.into_iter().collect()));
            self.height += 1;
            return;
        }
        root.push(index, height, element);
    }
}

impl<T> Node<T> {
    /// A node of this height that holds one element.
    fn around(element: T, height: u32) -> Self {
        let leaf = Self::Leaf(Arc::new(std::iter::once(element).collect()));
        (0..height).fold(leaf, |child, _| {
            Self::Branch(Arc::new(std::iter::once(child).collect()))
        })
    }
}

impl<T: Clone> Node<T> {
    /// Appends the element that will have this index; there is room for it below this node.
    fn push(&mut self, index: usize, height: u32, element: T) {
        match self {
            Self::Leaf(elements) => Arc::make_mut(elements).push(element),
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                match children.get_mut(digit(index, height * BITS)) {
                    Some(child) => child.push(index, height - 1, element),
                    None => children.push(Self::around(element, height - 1)),
                }
            }
        }
    }
}

/// Where below a node the way to an index goes on.
const fn digit(index: usize, shift: u32) -> usize {
    (index >> shift) % WIDTH
}

/// How many bits of an index a level takes.
const BITS: u32 = 5;

/// How many elements or nodes a node holds.
const WIDTH: usize = 1 << BITS;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u16),
        Set(usize, u16),
        Copy,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any::<u16>().prop_map(Step::Push),
            3 => (0_usize..2_000, any::<u16>()).prop_map(|(index, value)| Step::Set(index, value)),
            1 => Just(Step::Copy),
        ]
    }

    proptest! {
        /// Behaves as a `Vec`, and copies made earlier keep what they held.
        #[test]
        fn copies_are_independent_vectors(steps in vec(step(), 0..1_500)) {
            let mut tree = PersistentVec::default();
            let mut model = Vec::new();
            let mut copies = Vec::new();
            for step in steps {
                match step {
                    Step::Push(value) => {
                        tree.push(value);
                        model.push(value);
                    }
                    Step::Set(index, value) => {
                        let (slot, expected) = (tree.get_mut(index), model.get_mut(index));
                        prop_assert_eq!(slot.is_some(), expected.is_some());
                        if let (Some(slot), Some(expected)) = (slot, expected) {
                            (*slot, *expected) = (value, value);
                        }
                    }
                    Step::Copy => copies.push((tree.clone(), model.clone())),
                }
            }
            copies.push((tree, model));
            for (tree, model) in copies {
                prop_assert_eq!(tree.len(), model.len());
                prop_assert!(tree.iter().eq(model.iter()));
                for (index, value) in model.iter().enumerate() {
                    prop_assert_eq!(tree.get(index), Some(value));
                }
                prop_assert_eq!(tree.get(model.len()), None);
            }
        }
    }

    #[test]
    fn levels_are_added_as_needed() {
        let mut tree = PersistentVec::default();
        for index in 0..WIDTH * WIDTH * WIDTH + WIDTH + 1 {
            assert_eq!(tree.get(index), None);
            tree.push(index);
            assert_eq!(tree.get(index), Some(&index));
        }
        assert_eq!(tree.height, 3);
        assert!(tree.iter().copied().eq(0..tree.len()));
        for index in [0, WIDTH, WIDTH * WIDTH * WIDTH - 1, tree.len() - 1] {
            assert_eq!(tree.get(index), Some(&index));
        }
    }
}
