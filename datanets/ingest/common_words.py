"""Words that say how something is asked and not what about: an English question that differs from
another in such words alone asks the same. In other languages every word counts as a name, so that
fewer records are taken for the same, never more.
"""

_FUNCTION = """
a about above according across after again against all almost along already also although always
am among amongst an and another any anybody anyone anything are around as at away back be because
been before behind being below beside besides between beyond both but by can cannot could did do
does doing done down due during each either else enough etc even ever every everybody everyone
everything except few for from further had has have having he hence her here hers herself him
himself his how however if in indeed inside instead into is it its itself just least less lot lots
many may maybe me might mine more moreover most mostly much must my myself near neither never next
no nobody none nor not nothing now of off often on once one ones only onto or other others
otherwise our ours ourselves out over own per perhaps please quite rather really same shall she
should since so some somebody someone something sometimes soon still such than that the their
theirs them themselves then there therefore these they thing things this those though through
throughout thus to together too toward towards under unless until up upon us usually various very
via was we well were what whatever when whenever where whereas wherever whether which while who
whoever whole whom whose why will with within without would yes yet you your yours yourself
"""

_ASKING = """
actual actually affect affected affects answer answers apply approach ask asked aspect aspects
available basic basically become becomes best better brief briefly bring call called case
cases cause caused causes causing certain change changes clear clearly come comes common commonly
compare complete concept consider contain contains correct create current currently deal deals
define defined definition depend describe described describes description detail detailed details
determine develop developed difference differences different discuss easy effect effective effects
entire essential exactly example examples exist exists explain explained explanation fact facts
find first following follows form forms found full function functions general generally get gets
getting give given gives go goes going good great guide happen happened happening happens help
helps history idea identify important include includes including indicate individual individuals
info inform information interesting introduction involve involved involves issue issues keep key
kind kinds know known last learn let likely list look main make makes making mean
meaning means meant method methods name named names necessary need needed needs new note
number occur occurs offer old order overview part particular particularly people person persons
picture place point possible potential present prevent prevented previous problem problems
process produce proper provide provides purpose put question questions quick reason reasons recent
refer refers regarding relate related relation relevant require required result results risk risks
role say says see seen set should show shown shows sign significant signs similar simple
simply single specific specifically stage stages start state statement states step steps
strong suggest sum summarise summarize summary sure symptom symptoms take taken takes talk tell
term terms test tests think time times today topic treat treated treating treatment treatments
true try type types typical typically understand understanding use used useful uses using value
view want way ways word words work works write
"""

COMMON = frozenset(f"{_FUNCTION} {_ASKING}".split())
