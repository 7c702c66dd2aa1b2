//! The part of CEL that rules about two fields need: comparisons, `&&`, `||`, `!`, `+`, `-`, `has()`, `size()`.
//!
//! Owns parsing and evaluating `x-kubernetes-validations`. A rule that uses more (macros, functions, `oldSelf`) is not
//! parsed and so not evaluated; the schema keeps it for OpenAPI.

use serde_json::Value;
use std::cmp::Ordering;

/// Deepest nesting of an expression.
const DEEPEST: usize = 32;

/// A parsed rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Value),
    /// Fields below `self`.
    Path(Vec<String>),
    Has(Vec<String>),
    Size(Box<Expression>),
    Not(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
    Plus,
    Minus,
}

/// Operators by how tightly they bind, loosest first; longer signs before those that they begin with.
const LEVELS: [&[(&str, Operator)]; 4] = [
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ],
    &[("+", Operator::Plus), ("-", Operator::Minus)],
];

/// Reads a rule; none when it uses more than is understood here.
pub(super) fn parse(text: &str) -> Option<Expression> {
    let mut parser = Parser { rest: text };
    let expression = parser.level(0, 0)?;
    parser.rest.trim().is_empty().then_some(expression)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn take(&mut self, sign: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(sign) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn level(&mut self, level: usize, depth: usize) -> Option<Expression> {
        if depth > DEEPEST {
            return None;
        }
        let Some(operators) = LEVELS.get(level) else { return self.unary(depth) };
        let mut left = self.level(level + 1, depth)?;
        loop {
            let Some((_, operator)) = operators.iter().find(|(sign, _)| self.take(sign)) else {
                return Some(left);
            };
            let right = self.level(level + 1, depth)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self, depth: usize) -> Option<Expression> {
        if self.take("!") {
            return Some(Expression::Not(Box::new(self.unary(depth + 1).filter(|_| depth < DEEPEST)?)));
        }
        if self.take("(") {
            let inner = self.level(0, depth + 1)?;
            return self.take(")").then_some(inner);
        }
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        if first == '\'' || first == '"' {
            let (text, after) = self.rest[1..].split_once(first)?;
            self.rest = after;
            return (!text.contains('\\')).then(|| Expression::Literal(text.into()));
        }
        if first.is_ascii_digit() {
            let number = self.word(|c| c.is_ascii_digit() || c == '.');
            return serde_json::from_str(number).ok().map(Expression::Literal);
        }
        let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
        match name {
            "true" => Some(Expression::Literal(true.into())),
            "false" => Some(Expression::Literal(false.into())),
            "null" => Some(Expression::Literal(Value::Null)),
            "self" => {
                let path = self.path()?;
                self.sized(path)
            }
            "has" => {
                let argument = self.argument(depth)?;
                if let Expression::Path(path) = argument { Some(Expression::Has(path)) } else { None }
            }
            "size" => self.argument(depth).map(|argument| Expression::Size(Box::new(argument))),
            _ => None,
        }
    }

    fn argument(&mut self, depth: usize) -> Option<Expression> {
        if !self.take("(") {
            return None;
        }
        let argument = self.level(0, depth + 1)?;
        self.take(")").then_some(argument)
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, after) = self.rest.split_at(end);
        self.rest = after;
        word
    }

    fn path(&mut self) -> Option<Vec<String>> {
        let mut path = Vec::new();
        while let Some(after) = self.rest.strip_prefix('.') {
            self.rest = after;
            let field = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
            if field.is_empty() {
                return None;
            }
            path.push(field.to_owned());
        }
        Some(path)
    }

    /// A path, or `path.size()`; another call is not understood.
    fn sized(&mut self, mut path: Vec<String>) -> Option<Expression> {
        if !self.rest.starts_with(['(', '[']) {
            return Some(Expression::Path(path));
        }
        let sizes = path.pop()? == "size" && self.take("(") && self.take(")");
        sizes.then(|| Expression::Size(Box::new(Expression::Path(path))))
    }
}

/// Whether `value` keeps the rule; an error says why that cannot be told, which counts as breaking it.
pub(super) fn holds(rule: &Expression, value: &Value) -> Result<bool, String> {
    evaluate(rule, value)?.as_bool().ok_or_else(|| "the rule gives no true or false".to_owned())
}

fn find<'a>(value: &'a Value, path: &[String]) -> Result<&'a Value, String> {
    path.iter()
        .try_fold(value, |value, field| value.get(field).ok_or_else(|| format!("no such key: {field}")))
}

fn evaluate(expression: &Expression, value: &Value) -> Result<Value, String> {
    match expression {
        Expression::Literal(literal) => Ok(literal.clone()),
        Expression::Path(path) => find(value, path).cloned(),
        Expression::Has(path) => Ok(Value::from(find(value, path).is_ok())),
        Expression::Size(inner) => match evaluate(inner, value)? {
            Value::String(text) => Ok(Value::from(text.chars().count())),
            Value::Array(list) => Ok(Value::from(list.len())),
            Value::Object(map) => Ok(Value::from(map.len())),
            _ => Err("size() of something without a size".to_owned()),
        },
        Expression::Not(inner) => holds(inner, value).map(|held| Value::from(!held)),
        Expression::Binary(Operator::Or, left, right) => match holds(left, value) {
            Ok(true) => Ok(Value::from(true)),
            // As in CEL, one side that is true outweighs an error on the other.
            other => match (other, holds(right, value)?) {
                (_, true) => Ok(Value::from(true)),
                (other, false) => other.map(Value::from),
            },
        },
        Expression::Binary(Operator::And, left, right) => match holds(left, value) {
            Ok(false) => Ok(Value::from(false)),
            other => match (other, holds(right, value)?) {
                (_, false) => Ok(Value::from(false)),
                (other, true) => other.map(Value::from),
            },
        },
        Expression::Binary(operator, left, right) => {
            binary(*operator, &evaluate(left, value)?, &evaluate(right, value)?)
        }
    }
}

fn binary(operator: Operator, left: &Value, right: &Value) -> Result<Value, String> {
    let order = order(left, right);
    let ordered = |accepts: fn(Ordering) -> bool| {
        order.map(|order| Value::from(accepts(order))).ok_or_else(|| "no such overload".to_owned())
    };
    let sum = |sign: i64| match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => {
            let sum = right.checked_mul(sign).and_then(|right| left.checked_add(right));
            sum.map(Value::from).ok_or_else(|| "integer overflow".to_owned())
        }
        _ => Err("no such overload".to_owned()),
    };
    match operator {
        Operator::Equal => Ok(Value::from(order.map_or(left == right, Ordering::is_eq))),
        Operator::Unequal => Ok(Value::from(order.map_or(left != right, Ordering::is_ne))),
        Operator::LessOrEqual => ordered(Ordering::is_le),
        Operator::GreaterOrEqual => ordered(Ordering::is_ge),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::Plus => sum(1),
        Operator::Minus => sum(-1),
        Operator::Or | Operator::And => Err("no such overload".to_owned()),
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_about_fields_hold_or_not() {
        let value = json!({"min": 6, "max": 5, "mode": "a", "list": [1, 2], "on": true});
        for (rule, expected) in [
            ("self.min <= self.max", false),
            ("self.max < self.min && self.mode == 'a'", true),
            ("!has(self.none) || self.none > 3", true),
            ("has(self.mode) && size(self.list) == 2", true),
            ("self.list.size() >= 3", false),
            ("self.min - self.max == 1", true),
            ("!(self.mode != \"a\") && self.on", true),
        ] {
            assert_eq!(holds(&parse(rule).unwrap(), &value), Ok(expected), "{rule}");
        }
        assert!(holds(&parse("self.none > 3").unwrap(), &value).is_err());
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        for rule in
            ["self.list.all(x, x > 0)", "self == oldSelf", "self.a matches 'b'", "1 +", "self.list[0] == 1"]
        {
            assert_eq!(parse(rule), None, "{rule}");
        }
        assert_eq!(parse(&"(".repeat(1000)), None);
    }
}
