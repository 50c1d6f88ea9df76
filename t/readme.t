#!/usr/bin/perl

# Tests for README.md and doc/: they name what the programs have, all of it
# and nothing else. A failed one says what has to be written, or taken out.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use File::Basename qw/ dirname /;

use Ims;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(25);

my $readme = slurp('README.md');
my $directives = slurp('doc/directives.md');
my $module = slurp('ngx_module/ngx_http_ims_module.c');

###############################################################################

# directives: names, contexts, defaults

my %code = commands($module);
my %page = sections($directives);

cmp_ok(scalar keys %code, '>', 20, 'directives found');
same([keys %page], [keys %code], 'directives');
same([map { "$_: $page{$_}{Context}" } keys %page],
     [map { "$_: $code{$_}{context}" } keys %code], 'contexts');
is_deeply([grep { $page{$_}{Syntax} !~ /^$_\b.*[;}]$/ } keys %page], [],
    'syntax');

my %default = defaults($module);
my %field = map { $code{$_}{field} => $_ }
    grep { defined $code{$_}{field} } keys %code;

same([map { my ($v) = $page{$field{$_}}{Default} =~ /^\S+ (.*);$/;
            "$field{$_} " . number($v // '-') } sort keys %field],
     [map { "$field{$_} " . ($default{$_} // '-') } sort keys %field],
     'defaults');

my ($block) = slurp('ngx_module/ngx_http_ims_issuer.c')
    =~ /ngx_http_ims_issuer_commands\[\] = \{(.*?)\n\};/s;
my ($table) = $directives =~ /^\| in the block \|(.*?)\n\n/ms;

same([$table =~ /^\| `(\w+)` \|/mg], [$block =~ /ngx_string\("(\w+)"\)/g],
    'directives of an issuer');

my @variables = grep { slurp($_) =~ /ngx_http_add_variable/ }
    files('ngx_module/*.c');
same(\@variables, [], 'no variables');
like($readme, qr/module has no variables of its own/, 'README says so');

# counters and figures, with their texts

same([rows($directives, 'counter')],
    [slurp('ngx_module/ngx_http_ims.h')
        =~ /^\s+X\((\w+,\s+"[^"]+)"\)/mg], 'counters', qr/,\s+"/);

my ($gauges) = slurp('ngx_module/ngx_http_ims_status.c')
    =~ /ngx_http_ims_gauges\[\] = \{(.*?)\n\};/s;
same([rows($directives, 'figure')], [$gauges =~ /\{ "(\w+",\s+"[^"]+)"/g],
    'figures', qr/",\s+"/);

# the header table

my %header = slurp('ngx_module/sip/ims_sip_hdr.h') =~ s/\\\n//gr
    =~ /X\((\w+),\s*"([^"]+)"/g;
my %word = (K => 'keep', S => 'strip', I => 'ours', ONE => 'one',
            AUTH => 'auth', ACCESS => 'access', PRIVACY => 'privacy',
            REGISTERED => '2xx');
my @policy;

my $policy = slurp('ngx_module/sip/ims_sip_policy.c');
while ($policy =~ /^    ROW\((\w+),\s*(\w+),\s*(\w+),\s*(\w+),\s*(\w+)\)/mg) {
    push @policy, join ' | ', $header{$1} // $1,
        map { $word{$_} // $_ } $2, $3, $4, $5;
}

my $headers = slurp('doc/headers.md');

cmp_ok(scalar @policy, '>', 40, 'rows of the header table found');
same([$headers =~ /^\| ([\w-]+ \| \w+ \| \w+ \| \w+ \| \w+) \|$/mg], \@policy,
    'header table');
is_deeply([grep { $headers !~ /^\| $_ \|/m } sort values %word], [],
    'its words told');

# ims-poolctl, ims-poolmgr, scripts/run

my $poolctl = slurp('doc/poolctl.md');
my ($ctl, $mgr) = split /^# ims-poolmgr$/m, $poolctl;

my $help = help('ims-poolctl');
my @commands = $help =~ /^  ([a-z]+(?: [a-z]+)?)  +[a-z]/mg;
my %row;

for my $line ($ctl =~ /^\| (`.*) \|$/mg) {
    for my $command (@commands) {
        $row{$command} .= $line if $line =~ /`$command[ `]/;
    }
}

my @first = map { /^\| `(\w+)/mg } $ctl;
my %known = map { /^(\w+)/ => 1 } @commands;

cmp_ok(scalar @commands, '>', 10, 'commands of ims-poolctl found');
same([keys %row], \@commands, 'commands');
is_deeply([grep { !$known{$_} } @first], [], 'no others');

my (@missing, @excess);

for my $command (@commands) {
    my $text = help('ims-poolctl', split / /, $command);
    my %has = map { $_ => 1 } options($text);
    my %told = map { $_ => 1 } options(($row{$command} // '')
        . ($command eq 'pool alter' ? $row{'pool create'} : ''));

    push @missing, map { "$command $_" } grep { !$told{$_} } keys %has;
    push @excess, map { "$command $_" }
        grep { !$has{$_} } options($row{$command} // '')
            unless $command =~ /^pool alter$/;
}

is_deeply([sort @missing], [], 'their options');
is_deeply([sort @excess], [], 'and no others');

same([options($mgr)], [options(help('ims-poolmgr'))],
    'options of ims-poolmgr');

my ($usage) = slurp('scripts/run') =~ /^#   scripts\/run (.*?)^$/ms;
my ($run) = $readme =~ /^\| option \|(.*?)\n\n/ms;
same([options($run)], [options($usage =~ s/,\s.*?--core\b//r)],
    'options of scripts/run');

my ($parts) = slurp('scripts/test') =~ /parts=\((deps [^)]+)\)/;
my ($told) = $readme =~ /runs parts: `([^`]+)`/;
is(join(' ', split ' ', $told), join(' ', split ' ', $parts),
    'parts of scripts/test');

# what is pointed at is there

my @broken;

for my $page ('README.md', files('doc/*.md'), 'conf/kamailio/README.md',
              'wic/README.md')
{
    my $text = slurp($page) =~ s/^```.*?^```$//gmsr;

    for my $target ($text =~ /\]\(([^)#\s]+)[^)]*\)/g) {
        next if $target =~ /^https?:/;
        push @broken, "$page: $target"
            unless -e "$Ims::ROOT/" . dirname($page) . "/$target";
    }

    for my $path ($text =~ m{`((?:ngx_module|poolmgr|conf|doc|t|fuzz|wic
                               |scripts)/[\w./*-]*)`}xg)
    {
        push @broken, "$page: $path" unless files($path);
    }

    for my $anchor ($text =~ /\]\(#([^)]+)\)/g) {
        my @titles = map { lc s/[^\w -]//gr =~ s/ /-/gr }
            $text =~ /^#+ (.*)$/mg;
        push @broken, "$page: #$anchor" unless grep { $_ eq $anchor } @titles;
    }
}

is_deeply(\@broken, [], 'links and paths');

cmp_ok(scalar(() = $readme =~ /\n/g), '<', 600, 'README is not too long');

# all defaults at once, in the form that is shown

my $conf = ims_conf($t) . '';
my %by = (http => '', location => '');

ims_keys($t);
$t->write_file('error.log', '');

for my $name (sort keys %page) {
    next if $page{$name}{Default} eq '-' || $name eq 'ims_flows';
    $by{$page{$name}{Context} =~ /location/ ? 'location' : 'http'}
        .= "$page{$name}{Default}\n";
}

$conf =~ s/^\s*ims_(?:token|drain_time) .*\n//mg;
$conf =~ s/^(    ims_state_dir)/$by{http}$1/m;
$conf =~ s/^(\s+ims_pass .*\n)/$1$by{location}/m;

my ($good, $out) = ims_conf_error($t, $conf);
ok($good, 'defaults as they are written') or diag($out);

# numbers of TCP ports and the like that README repeats from scripts/run

my %shell = slurp('scripts/run') =~ /^(\w+)=\$\{IMS_\w+:-([\w\$\/]+)\}/mg;
my @wrong;

for my $line (split /\n/, $run) {
    my ($names, $values) = $line =~ /^\| (.*?) \| ([\d, ]+) \|/ or next;
    my @values = split /, /, $values;

    for my $name (map { tr/-/_/r } $names =~ /--([\w-]+)/g) {
        my $value = shift @values;
        push @wrong, $name if ($shell{$name} // '') ne $value;
    }
}

is_deeply(\@wrong, [], 'defaults of scripts/run');

###############################################################################

sub slurp {
    open my $f, '<', "$Ims::ROOT/$_[0]" or die "$_[0]: $!\n";
    local $/;
    return scalar <$f>;
}


sub files {
    return map { s{^\Q$Ims::ROOT/\E}{}r } grep { -e }
        glob "$Ims::ROOT/$_[0]";
}


# the same words, in any order; what is missing on either side is told

sub same {
    my ($told, $there, $name, $between) = @_;

    my @told = sort map { norm($_, $between) } @$told;
    my @there = sort map { norm($_, $between) } @$there;

    my @differ = ((map { "not told: $_" } minus(\@there, \@told)),
                  (map { "not there: $_" } minus(\@told, \@there)));

    is(join("\n", @differ), '', $name);
}


sub norm {
    my ($text, $between) = @_;

    $text =~ s/$between/ | / if defined $between;

    return $text;
}


sub minus {
    my ($from, $what) = @_;

    my %what = map { $_ => 1 } @$what;

    return grep { !$what{$_} } @$from;
}


# the table of a module's directives: name => { context, field }

sub commands {
    my ($text) = @_;

    my ($list) = $text =~ /ngx_http_ims_commands\[\] = \{(.*?)\n\};/s;
    my %found;

    while ($list =~ /ngx_string\("(\w+)"\),\s*(.*?)\},?\n/sg) {
        my ($name, $rest) = ($1, $2);
        my ($field) = $rest =~ /offsetof\(\w+, (\w+)\)/;

        $found{$name} = {
            field => $field,
            context => $rest =~ /IMS_ANY_CONF/ ? 'http, server, location'
                : join(', ', ($rest =~ /HTTP_MAIN_CONF\|/ ? 'http' : ()),
                             ($rest =~ /HTTP_SRV_CONF/ ? 'server' : ()),
                             ($rest =~ /HTTP_LOC_CONF\|/ ? 'location' : ())),
        };
    }

    return %found;
}


sub sections {
    my ($text) = @_;

    my %found;

    while ($text =~ /^### (\w+)\n\n((?:    .*\n)+)/mg) {
        my ($name, $lines) = ($1, $2);
        $found{$name} = { $lines =~ /^    (\w+): +(.*)$/mg };
    }

    return %found;
}


# field => its default in the code, as a number where it is one

sub defaults {
    my ($text) = @_;

    my %found = $text =~ /ngx_conf_init_\w*value\(\w+->(\w+),\s*([^;]+)\);/g;

    while ($text =~ /ngx_conf_merge_\w*value\(conf->(\w+),
                     \s*prev->\w+,\s*([^;]+)\);/xg)
    {
        $found{$1} = $2;
    }

    my %special = (NGX_HTTP_IMS_TOKEN_OPTIONAL => 'optional');

    for my $field (keys %found) {
        my $v = $found{$field};

        $v = $special{$v} // $v;
        $v =~ s/^"(.*)"$/$1/;
        $v = eval $v if $v =~ /^[\d *]+$/;

        delete $found{$field};
        $found{$field} = $v
            unless $v eq '' || $v eq 'NULL' || $v =~ /UNSET|identity_user/;
    }

    return %found;
}


# "32s" is 32000 to a directive of milliseconds, and 60 to one of seconds

sub number {
    my ($v) = @_;

    return $v eq '60s' ? 60
        : $v =~ /^(\d+)s$/ ? $1 * 1000
        : $v =~ /^(\d+)k$/ ? $1 * 1024
        : $v =~ /^(\d+)m$/ ? $1 * 1024 * 1024
        : $v eq 'off' ? 0
        : $v eq 'on' ? 1
        : $v;
}


sub rows {
    my ($text, $title) = @_;

    my ($found) = $text =~ /^\| $title \| \|\n\|---\|---\|\n((?:\|.*\n)+)/m;

    return map { s/` \| / | /r } $found =~ /^\| `(.*?) \|$/mg;
}


sub options {
    my %seen = map { $_ => 1 } $_[0] =~ /(?<![\w-])(--[a-z][a-z-]*[a-z])\b/g;

    return keys %seen;
}


sub help {
    my ($program, @command) = @_;

    my ($status, $text) = ims_run(ims_program($program), @command, '--help');

    return $text;
}

###############################################################################
