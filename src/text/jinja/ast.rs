//! The tree of a template. Names are resolved to slots by `scope.rs` before anything runs.

use std::sync::Arc;

/// An expression and its line.
#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub line: u32,
    pub node: Node,
}

/// Literals.
#[derive(Debug, Clone)]
pub(super) enum Const {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
}

/// Arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// Signs and negation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Not,
    Neg,
    Pos,
}

/// Where a variable is: so many functions out, then a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub hops: u16,
    pub slot: u16,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Const(Const),
    Name(Arc<str>, Place),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(Compare, Expr)>),
    Concat(Vec<Expr>),
    /// Test, value, value otherwise.
    Cond(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
    Attribute(Box<Expr>, Arc<str>),
    Item(Box<Expr>, Box<Expr>),
    /// Start, stop, step; only inside of brackets.
    Slice(Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, CallArgs),
    /// Without an input it stands at the head of a block and takes the block's text.
    Filter(Option<Box<Expr>>, Arc<str>, CallArgs),
    Test(Box<Expr>, Arc<str>, CallArgs),
    /// A constant that Jinja evaluates while it compiles, and whether it is printed as it is.
    Folded(Box<Expr>, bool),
}

/// Arguments as they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct CallArgs {
    pub positional: Vec<Expr>,
    pub named: Vec<(Arc<str>, Expr)>,
    pub rest: Option<Box<Expr>>,
    pub named_rest: Option<Box<Expr>>,
}

/// What can be assigned to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Name(Arc<str>, Place),
    Tuple(Vec<Target>),
    /// An attribute of a namespace.
    Attribute(Arc<str>, Place, Arc<str>),
}

/// How a variable of a scope begins.
#[derive(Debug, Clone)]
pub(super) enum Load {
    /// Looked up by name among what the template was called with and has set at its top level.
    Resolve(Arc<str>),
    /// A copy of the outer scope's.
    Alias(Place),
    Missing,
    /// The caller sets it.
    Parameter,
}

/// A scope's variables: what each begins as.
pub(super) type Scope = Vec<(u16, Load)>;

/// A statement and its line.
#[derive(Debug, Clone)]
pub(super) struct Stmt {
    pub line: u32,
    pub kind: StmtKind,
}

#[derive(Debug, Clone)]
pub(super) enum StmtKind {
    Text(Arc<str>),
    Print(Vec<Expr>),
    /// Conditions with their bodies; the last has none for `else`.
    If(Vec<(Option<Expr>, Vec<Stmt>)>),
    For(Arc<For>),
    /// The flag: at the top level, where the context has a copy.
    Set(Target, Expr, bool),
    SetBlock(Box<SetBlock>),
    With(Vec<(Target, Expr)>, Vec<Stmt>, Scope),
    Autoescape(Expr, Vec<Stmt>, Scope),
    FilterBlock(Expr, Vec<Stmt>, Scope),
    Macro(Arc<Macro>, Place, bool),
    /// The call expression and what `caller` is.
    CallBlock(Expr, Arc<Macro>),
    /// transformers' tag: prints what is inside.
    Generation(Arc<Macro>),
    Block(Arc<str>, Arc<Block>),
    /// `include`, `import`, `extends`: there is no loader.
    Foreign(Expr),
    Break,
    Continue,
}

#[derive(Debug, Clone)]
pub(super) struct For {
    pub target: Target,
    pub iter: Expr,
    pub test: Option<(Target, Expr, Scope)>,
    pub body: Vec<Stmt>,
    pub scope: Scope,
    pub otherwise: Option<(Vec<Stmt>, Scope)>,
    /// Number of slots of its function, where it calls itself.
    pub recursive: Option<u16>,
    /// The slot of `loop`, where it is used.
    pub loop_slot: Option<u16>,
}

#[derive(Debug, Clone)]
pub(super) struct SetBlock {
    pub target: Target,
    pub filter: Option<Expr>,
    pub body: Vec<Stmt>,
    pub scope: Scope,
    pub toplevel: bool,
}

/// A macro, or the body of a call block.
#[derive(Debug, Clone)]
pub(super) struct Macro {
    pub name: Option<Arc<str>>,
    pub args: Vec<(Arc<str>, u16)>,
    /// Those of the last arguments.
    pub defaults: Vec<Expr>,
    pub body: Vec<Stmt>,
    pub scope: Scope,
    pub slots: u16,
    pub caller: Option<u16>,
    pub kwargs: Option<u16>,
    pub varargs: Option<u16>,
}

/// `{% block %}`: nothing extends it, so it prints what is inside, in a scope of its own.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub body: Vec<Stmt>,
    pub scope: Scope,
    pub slots: u16,
    pub required: bool,
    /// `scoped`: the variables of the place that the block sees.
    pub visible: Vec<(Arc<str>, Place)>,
    pub scoped: bool,
    pub own: Option<u16>,
    pub parent: Option<u16>,
}
