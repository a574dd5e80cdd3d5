"""How the report looks. The colours of the two starts, ``--mae`` and ``--scratch``, come from the curves."""

STYLE = """
:root { --paper: #fff; --ink: #1c1d20; --soft: #64666d; --line: #e2e2e0; --tint: #f3f3f0; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #17181b; --ink: #e4e4e2; --soft: #a0a2a8; --line: #34363b; --tint: #222327;
          --mae: #6fa8e8; --scratch: #e2a050; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: break-word;
       font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 16px 64px; }
h1 { font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -.01em; margin: 0 0 8px; }
h2 { font-size: 20px; font-weight: 650; margin: 56px 0 8px; }
p { margin: 8px 0; }
p, figcaption, ul { max-width: 70ch; }
ul { padding-left: 20px; }
code { font-size: .92em; }
.soft, figcaption, caption, th { color: var(--soft); }
figcaption, caption, th, .small { font-size: 14px; }
.mae { color: var(--mae); }
.scratch { color: var(--scratch); }
.top { display: grid; gap: 8px 56px; }
@media (min-width: 1000px) { .top { grid-template-columns: minmax(0, 1fr) auto; } }

.wide { overflow-x: auto; }
.paper { background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.small td { white-space: nowrap; }
caption { caption-side: bottom; text-align: left; padding-top: 8px; }
th, td { padding: 6px 16px 6px 0; text-align: right; vertical-align: baseline; border-bottom: 1px solid var(--line); }
th { font-weight: 500; }
th:first-child, td:first-child, .left { text-align: left; }
.task td { padding-top: 18px; font-weight: 600; }
.task span { font-weight: 400; color: var(--soft); font-size: 14px; margin-left: 8px; }
.bars { width: 160px; padding-right: 0; }
.bars div { background: var(--tint); margin: 2px 0; }
.bars i { display: block; height: 7px; border-radius: 1px; background: currentColor; }

figure { margin: 16px 0 0; }
figcaption { margin-top: 12px; }
.groups { display: grid; gap: 20px 32px; grid-template-columns: repeat(auto-fill, minmax(var(--least), 1fr)); }
.group { display: grid; gap: 4px; align-content: start; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); }
.group span { font-size: 13px; line-height: 1.35; color: var(--soft); white-space: pre-line; align-self: end; }
.group img, .plots svg { display: block; width: 100%; height: auto; border-radius: 3px; }
.plots { display: grid; gap: 16px 32px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)); }
.key { margin-right: 16px; white-space: nowrap; }
.key::before { content: ''; display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 2px;
               vertical-align: -1px; background: var(--colour, currentColor); }

@media (max-width: 640px) {
  main { padding-top: 24px; }
  h1 { font-size: 25px; }
  .results table { width: 100%; }
  .bars { display: none; }
  th, td { padding-right: 10px; }
  .small td, .small th { font-size: 13px; }
}
"""
