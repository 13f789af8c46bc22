package words

// Builtin returns the lists that there are without configuration, by category: places to start
// from, in English. They have phrases rather than single words that mean several things, and no
// slurs: who needs those has lists of them. They do not understand text: who asks for help, and who
// writes of history, uses the same words.
func Builtin() []List {
	return []List{
		{Category: "profanity", Severity: Low, Words: []string{
			"arsehole", "asshole", "assholes", "bastard", "bastards", "bitch", "bitches", "bollocks", "bullshit", "dickhead", "fuck",
			"fucked", "fucker", "fucking", "motherfucker", "piss off", "shit", "shitty", "wanker",
		}},
		{Category: "violence", Severity: Medium, Words: []string{
			"beat you to death", "burn your house down", "hire a hitman", "how to kill someone", "how to poison someone",
			"I am going to kill you", "I'll kill you", "I'm going to kill you", "I will hurt you", "I will kill you",
			"shoot up the school", "shoot up a school", "stab you", "you will die for this",
		}},
		{Category: "self-harm", Severity: High, Words: []string{
			"commit suicide", "cutting myself", "end my life", "end my own life", "harm myself", "how to kill yourself",
			"hurt myself", "kill myself", "kill yourself", "killing myself", "painless way to die", "suicide method",
			"suicide methods", "take my own life", "want to die", "ways to die",
		}},
		{Category: "weapons", Severity: High, Words: []string{
			"build a bomb", "build a pipe bomb", "build an explosive", "buy an untraceable gun", "build a ghost gun", "make a bomb",
			"make a molotov cocktail", "make a nerve agent", "make a pipe bomb", "make a silencer", "make explosives",
			"make napalm", "make ricin", "make sarin", "print a gun", "synthesise sarin", "synthesize sarin",
		}},
		{Category: "hate", Severity: High, Words: []string{
			"are subhuman", "are vermin and", "death to all", "ethnic cleansing now", "exterminate all", "gas them all",
			"go back to your own country", "race war now", "should all be deported", "should all be exterminated",
			"should all be killed",
		}},
	}
}
