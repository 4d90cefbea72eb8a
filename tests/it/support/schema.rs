//! Checks JSON against the published schema, as far as the document uses JSON Schema.

use serde_json::Value;

/// Returns what does not match, each with its position.
pub fn mismatches(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "$", &mut found);
    found
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#'));
        return check(document, target.unwrap_or_else(|| panic!("no {reference}")), value, at, found);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        parts.iter().for_each(|part| check(document, part, value, at, found));
    }
    for choice in ["oneOf", "anyOf"] {
        let Some(options) = schema[choice].as_array() else { continue };
        let tried: Vec<Vec<String>> = options.iter().map(|option| mismatches(document, option, value)).collect();
        if !tried.iter().any(Vec::is_empty) {
            found.push(format!("{at}: {value} matches none of {choice}: {tried:?}"));
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is_a(name, value)) {
        return found.push(format!("{at}: {value} is not {types:?}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{at}: {value} is not one of {words:?}"));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        found.push(format!("{at}: {value} is less than {least}"));
    }
    if let Some(items) = value.as_array()
        && schema["items"].is_object()
    {
        for (n, item) in items.iter().enumerate() {
            check(document, &schema["items"], item, &format!("{at}[{n}]"), found);
        }
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            found.push(format!("{at}.{name}: required, and not sent"));
        }
    }
    for (name, field) in fields {
        let at = format!("{at}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (known @ Value::Object(_), _) => check(document, known, field, &at, found),
            (_, every @ Value::Object(_)) => check(document, every, field, &at, found),
            (_, Value::Bool(false)) => found.push(format!("{at}: sent, and not documented")),
            // An object without properties is one whose form is not fixed.
            _ if schema["properties"].is_object() => found.push(format!("{at}: sent, and not documented")),
            _ => {}
        }
    }
}

fn is_a(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}

/// Returns the schema of a response: that of the route with the fewest parameters that matches the address.
pub fn of_response<'a>(document: &'a Value, method: &str, path: &str, status: u16, kind: &str) -> Option<&'a Value> {
    let path = path.split('?').next().unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let matches = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        template.len() == parts.len() && template.iter().zip(&parts).all(|(t, p)| t.starts_with('{') || t == p)
    };
    let routes = document["paths"].as_object()?;
    let (_, item) = routes.iter().filter(|(t, _)| matches(t)).min_by_key(|(t, _)| t.matches('{').count())?;
    let responses = &item[method.to_lowercase()]["responses"];
    let response = [status.to_string(), "default".to_owned()].into_iter().find_map(|name| responses.get(name))?;
    response["content"][kind].get("schema")
}
