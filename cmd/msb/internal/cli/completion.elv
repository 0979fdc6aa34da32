# Completion of msb in elvish: eval (msb completion elvish | slurp)
use math
use str

set edit:completion:arg-completer[msb] = {|@words|
  var rest = $words[1..]
  var lines = [(try { e:msb __complete $@rest 2>/dev/null | from-lines } catch { nop })]
  # The last line is a colon and a number: 1 is an error, 2 means no space, 4 no files.
  var directive = 1
  if (and (> (count $lines) 0) (str:has-prefix $lines[-1] :)) {
    set directive = (num $lines[-1][1..])
    set lines = $lines[..-1]
  }
  var has = {|bit| == 1 (% (math:trunc (/ $directive $bit)) 2) }
  if (not ($has 1)) {
    var suffix = ' '
    if ($has 2) {
      set suffix = ''
    }
    for line $lines {
      var value @description = (str:split &max=2 "\t" $line)
      edit:complex-candidate $value &code-suffix=$suffix &display=(str:join '  ' [$value $@description])
    }
    if (and (== 0 (count $lines)) (not ($has 4))) {
      edit:complete-filename $words[-1]
    }
  }
}
