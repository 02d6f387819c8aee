//! A plan as a Mermaid flowchart.

use crate::plan::description::{Description, End, PipelineDescription};

pub(super) fn chart_of(description: &Description) -> String {
    let mut chart = "flowchart LR\n".to_owned();
    for (index, pipeline) in description.pipelines.iter().enumerate() {
        pipeline_of(pipeline, &format!("p{index}"), &mut chart);
    }
    chart
}

fn pipeline_of(pipeline: &PipelineDescription, id: &str, chart: &mut String) {
    let title = text(&format!("{}: {}", pipeline.pipeline, pipeline.guarantee));
    chart.push_str(&format!("  subgraph {id}[\"{title}\"]\n"));
    let mut line = |line: String| chart.push_str(&format!("    {line}\n"));
    for (number, source) in pipeline.sources.iter().enumerate() {
        line(format!("{id}_from{number}[(\"{}\")]", end(source)));
    }
    for (number, plugin) in pipeline.plugins.iter().enumerate() {
        line(format!("{id}_plugin{number}[\"{}<br/>{}\"]", text(&plugin.name), text(&plugin.world)));
    }
    line(format!("{id}_to[(\"{}\")]", end(&pipeline.sink)));
    let first = if pipeline.plugins.is_empty() { format!("{id}_to") } else { format!("{id}_plugin0") };
    for number in 0..pipeline.sources.len() {
        line(format!("{id}_from{number} --> {first}"));
    }
    for number in 0..pipeline.plugins.len() {
        let next = match number + 1 < pipeline.plugins.len() {
            true => format!("{id}_plugin{}", number + 1),
            false => format!("{id}_to"),
        };
        line(format!("{id}_plugin{number} --> {next}"));
    }
    if let Some(letters) = &pipeline.dead_letter {
        line(format!("{id}_dead[(\"{}\")]", end(letters)));
        for number in 0..pipeline.plugins.len() {
            line(format!("{id}_plugin{number} -. \"does not pass\" .-> {id}_dead"));
        }
    }
    chart.push_str("  end\n");
    for (number, plugin) in pipeline.plugins.iter().enumerate() {
        for (place, grant) in plugin.grants.iter().filter(|grant| grant.capability == "egress").enumerate() {
            let rules: Vec<String> = grant.values.iter().map(|rule| text(rule)).collect();
            let rules = if rules.is_empty() { "nothing".to_owned() } else { rules.join("<br/>") };
            chart.push_str(&format!("  {id}_net{number}_{place}{{{{\"{rules}\"}}}}\n"));
            chart.push_str(&format!("  {id}_plugin{number} == \"egress\" ==> {id}_net{number}_{place}\n"));
        }
    }
}

fn end(end: &End) -> String {
    text(&format!("{} {}", end.connector, end.name))
}

/// Within the quotes of a label, where Mermaid knows no escape but entities.
fn text(text: &str) -> String {
    let mut label = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => label.push_str("#quot;"),
            '<' => label.push_str("#lt;"),
            '>' => label.push_str("#gt;"),
            '#' => label.push_str("#35;"),
            c if c.is_control() => label.push(' '),
            c => label.push(c),
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_can_neither_end_its_quotes_nor_bring_markup() {
        assert_eq!(text("a\"b<br/>#1\n"), "a#quot;b#lt;br/#gt;#35;1 ");
    }
}
