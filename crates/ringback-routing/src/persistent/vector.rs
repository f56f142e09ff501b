//! A sequence: a tree of arrays, 32 to a node, as high as its length requires, and a tail that fills up.
//!
//! The tree has only full leaves, so that a search reads nothing but pointers: it waits for memory once a level.

use std::mem;
use std::sync::Arc;

use arrayvec::ArrayVec;
use prefetch_index::prefetch_index;

/// A sequence that grows at its end; see [the module](super).
#[derive(Clone, Debug)]
pub(crate) struct PersistentVec<T> {
    /// The tree: all elements but the tail. `None`: it is empty.
    root: Option<Node<T>>,
    /// The number of levels of branches above the leaves.
    height: u32,
    /// How many elements there are.
    length: usize,
    /// The last elements: too few for a leaf.
    tail: Arc<ArrayVec<T, WIDTH>>,
}

/// A part of the tree.
#[derive(Clone, Debug)]
enum Node<T> {
    /// Elements.
    Leaf(Arc<[T; WIDTH]>),
    /// Nodes of the level below, without gaps.
    Branch(Arc<[Option<Self>; WIDTH]>),
}

impl<T> Default for PersistentVec<T> {
    fn default() -> Self {
        Self {
            root: None,
            height: 0,
            length: 0,
            tail: Arc::default(),
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
        if index >= self.in_tree() {
            return self.tail.get(index - self.in_tree());
        }
        self.leaf(index).get(index % WIDTH)
    }

    /// Begins to fetch the element at this index, without waiting for it.
    pub(crate) fn prefetch(&self, index: usize) {
        if index < self.in_tree() {
            prefetch_index(self.leaf(index), index % WIDTH);
        }
    }

    /// Every element, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.in_tree())
            .step_by(WIDTH)
            .flat_map(|first| self.leaf(first))
            .chain(&*self.tail)
    }

    /// How many elements are in the tree.
    const fn in_tree(&self) -> usize {
        self.length - self.length % WIDTH
    }

    /// The leaf that holds this index; empty if the index is not in the tree.
    fn leaf(&self, index: usize) -> &[T] {
        let mut node = self.root.as_ref();
        let mut shift = self.height * BITS;
        loop {
            match node {
                Some(Node::Branch(children)) => node = children[digit(index, shift)].as_ref(),
                Some(Node::Leaf(elements)) => return &**elements,
                None => return &[],
            }
            shift = shift.saturating_sub(BITS);
        }
    }
}

impl<T: Clone> PersistentVec<T> {
    /// The element at this index, mutably; shared nodes on the path are copied.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let in_tree = self.in_tree();
        if index >= self.length {
            return None;
        }
        if index >= in_tree {
            return Arc::make_mut(&mut self.tail).get_mut(index - in_tree);
        }
        let mut node = self.root.as_mut()?;
        let mut shift = self.height * BITS;
        loop {
            match node {
                Node::Branch(children) => {
                    node = Arc::make_mut(children)[digit(index, shift)].as_mut()?;
                }
                Node::Leaf(elements) => {
                    return Arc::make_mut(elements).get_mut(index % WIDTH);
                }
            }
            shift = shift.saturating_sub(BITS);
        }
    }

    /// Appends an element.
    pub(crate) fn push(&mut self, element: T) {
        let tail = Arc::make_mut(&mut self.tail);
        tail.push(element);
        if tail.is_full() {
            let tail = Arc::unwrap_or_clone(mem::take(&mut self.tail));
            if let Ok(elements) = tail.into_inner() {
                self.append(Node::Leaf(Arc::new(elements)));
            }
        }
        self.length += 1;
    }

    /// Appends a leaf to the tree.
    fn append(&mut self, leaf: Node<T>) {
        let (index, height) = (self.in_tree(), self.height);
        let Some(root) = &mut self.root else {
            self.root = Some(leaf);
            return;
        };
        if index >> ((height + 1) * BITS) > 0 {
            // The tree is full: add a level.
            let children = [root.clone(), leaf.below(height)];
            *root = Node::branch(children);
            self.height += 1;
            return;
        }
        root.append(index, height, leaf);
    }
}

impl<T> Node<T> {
    /// A branch with these children.
    fn branch(children: impl IntoIterator<Item = Self>) -> Self {
        let mut children = children.into_iter();
        Self::Branch(Arc::new(std::array::from_fn(|_| children.next())))
    }

    /// This node below a number of new branches, each with one child.
    fn below(self, height: u32) -> Self {
        (0..height).fold(self, |child, _| Self::branch([child]))
    }
}

impl<T: Clone> Node<T> {
    /// Appends a leaf whose first element will have this index; there is room for it below this branch.
    fn append(&mut self, index: usize, height: u32, leaf: Self) {
        if let Self::Branch(children) = self {
            match &mut Arc::make_mut(children)[digit(index, height * BITS)] {
                Some(child) => child.append(index, height - 1, leaf),
                free => *free = Some(leaf.below(height - 1)),
            }
        }
    }
}

/// The child of a node on the path to an index.
const fn digit(index: usize, shift: u32) -> usize {
    (index >> shift) % WIDTH
}

/// The bits of an index that one level uses.
const BITS: u32 = 5;

/// The number of elements or children of a node.
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
        /// Behaves as a `Vec`, and clones made earlier keep their elements.
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
                    tree.prefetch(index);
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
