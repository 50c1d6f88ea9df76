#!/usr/bin/perl

# Tests for ims_issuer: each error that "nginx -t" must find, and what it
# says.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl');

ims_keys($t);
ims_keys($t, name => 'other');
ims_keys($t, name => 'rsa', alg => 'RS256');
ims_keys($t, name => 'hmac', alg => 'HS256');

$t->write_file('short', "short\n");
$t->write_file('empty', '');
$t->write_file('big', 'x' x 70000);

my $d = $t->testdir();

my %line = (
    iss => 'https://site.example',
    aud => 'ims.example',
    alg => 'ES256',
    key => "k1 $d/site.pub.pem $d/site.key.pem",
    pool => 'web',
    origin => 'https://site.example',
);

# the block's lines that differ from the good one (undef: left out), more
# lines, and what is said

my @bad = (
    [ 'no iss', { iss => undef }, '', qr/issuer "x" has no "iss"/ ],
    [ 'no aud', { aud => undef }, '', qr/issuer "x" has no "aud"/ ],
    [ 'no alg', { alg => undef }, '', qr/issuer "x" has no "alg"/ ],
    [ 'no key', { key => undef }, '', qr/issuer "x" has no "key"/ ],
    [ 'no limits', { pool => undef }, '',
        qr/issuer "x" has neither "pool" nor "domain"/ ],
    [ 'iss twice', {}, 'iss a;', qr/"iss" is duplicate in issuer "x"/ ],
    [ 'aud twice', {}, 'aud a;', qr/"aud" is duplicate/ ],
    [ 'alg twice', {}, 'alg ES256;', qr/"alg" is duplicate/ ],
    [ 'scope twice', {}, 'scope a; scope b;', qr/"scope" is duplicate/ ],
    [ 'leeway twice', {}, 'leeway 1; leeway 2;', qr/"leeway" is duplicate/ ],
    [ 'sign twice', {}, 'sign k1; sign k1;', qr/"sign" is duplicate/ ],
    [ 'pool twice', {}, 'pool web;', qr/duplicate value "web"/ ],
    [ 'domain twice', {}, 'domain a.b A.b;', qr/duplicate value "a.b"/ ],
    [ 'key twice', {}, "key k1 $d/site.pub.pem;", qr/duplicate key "k1"/ ],
    [ 'unknown line', {}, 'audience a;',
        qr/unknown directive "audience" in issuer "x"/ ],
    [ 'no argument', {}, 'scope;',
        qr/"scope" has an invalid number of arguments/ ],
    [ 'two arguments', {}, 'scope a b;',
        qr/"scope" has an invalid number of arguments/ ],
    [ 'empty iss', { iss => '""' }, '', qr/invalid value ""/ ],
    [ 'long aud', { aud => 'a' x 256 }, '', qr/invalid value "a{256}"/ ],
    [ 'quoted scope', {}, q{scope 'a"b';}, qr/invalid scope "a"b"/ ],
    [ 'two scopes', {}, 'scope "a b";', qr/"a b" is more than one scope/ ],
    [ 'alg none', { alg => 'none' }, '', qr/unknown algorithm "none"/ ],
    [ 'alg case', { alg => 'es256' }, '', qr/unknown algorithm "es256"/ ],
    [ 'leeway text', {}, 'leeway soon;', qr/invalid leeway "soon"/ ],
    [ 'leeway large', {}, 'leeway 301;', qr/invalid leeway "301"/ ],
    [ 'empty pool', {}, 'pool "";', qr/"pool" has an empty name/ ],
    [ 'bad domain', {}, 'domain ims_example/x;',
        qr/invalid domain "ims_example\/x"/ ],
    [ 'domain with port', {}, 'domain ims.example:5060;',
        qr/invalid domain "ims.example:5060"/ ],
    [ 'origin with path', { origin => 'https://a.b/c' }, '',
        qr/invalid origin "https:\/\/a.b\/c"/ ],
    [ 'origin null', { origin => 'null' }, '', qr/invalid origin "null"/ ],
    [ 'origin *', { origin => '*' }, '', qr/invalid origin "\*"/ ],
    [ 'empty regex', { origin => '~' }, '', qr/empty regex/ ],
    [ 'bad regex', { origin => '~ht(tp' }, '', qr/missing/ ],
    [ 'no such file', { key => "k $d/none" }, '',
        qr/open\(\) "\S+none" failed \(2: / ],
    [ 'no PEM', { key => "k $d/short" }, '',
        qr/key "k" of issuer "x", file "\S+short"/ ],
    [ 'empty file', { key => "k $d/empty" }, '',
        qr/key "k" of issuer "x", file "\S+empty"/ ],
    [ 'large file', { key => "k $d/big" }, '', qr/is too long for a key/ ],
    [ 'kid', { key => "k\\\" $d/site.pub.pem" }, '',
        qr/of issuer "x", file/ ],
    [ 'RSA for ES256', { key => "k $d/rsa.pub.pem" }, '',
        qr/key "k" of issuer "x", file "\S+rsa.pub.pem"/ ],
    [ 'EC for RS256', { alg => 'RS256' }, '',
        qr/key "k1" of issuer "x", file "\S+site.pub.pem"/ ],
    [ 'public as private', { key => "k $d/site.pub.pem $d/site.pub.pem" },
        '', qr/key "k" of issuer "x", file "\S+site.pub.pem"/ ],
    [ 'halves of two', { key => "k $d/site.pub.pem $d/other.key.pem" }, '',
        qr/the private half does not belong to the public one/ ],
    [ 'short secret', { alg => 'HS256', key => "k $d/short" }, '',
        qr/key "k" of issuer "x", file "\S+short"/ ],
    [ 'PEM as secret', { alg => 'HS256', key => "k $d/site.pub.pem" }, '',
        qr/key "k" of issuer "x", file "\S+site.pub.pem"/ ],
    [ 'HS256 with two', { alg => 'HS256',
                          key => "k $d/hmac.secret $d/hmac.secret" }, '',
        qr/HS256 takes one file/ ],
    [ 'sign unknown', {}, 'sign k2;',
        qr/"sign" names "k2", which is no key of issuer "x"/ ],
    [ 'sign public', { key => "k1 $d/site.pub.pem" }, 'sign k1;',
        qr/"sign" names "k1", which is no key of issuer "x" with a private/ ],
);

my @good = (
    [ 'ES256', {}, '' ],
    [ 'RS256', { alg => 'RS256', key => "k $d/rsa.pub.pem $d/rsa.key.pem" },
        '' ],
    [ 'HS256', { alg => 'HS256', key => "k $d/hmac.secret" }, '' ],
    [ 'two keys, the first signs', {},
        "key k2 $d/other.pub.pem $d/other.key.pem; sign k1;" ],
    [ 'domain alone', { pool => undef }, 'domain ims.example;' ],
    [ 'regex and wildcard',
        { origin => 'https://*.a.b ~https://c[0-9]+\.d' }, '' ],
    [ 'public key alone', { key => "k $d/site.pub.pem" }, '' ],
    [ 'leeway, scope', {}, 'leeway 5s; scope other;' ],
);

$t->plan(@bad + @good + 4);
$t->write_file_expand('nginx.conf', "daemon off; events {} http {}\n");
$t->run();

###############################################################################

for (@bad) {
    my ($name, $change, $more, $says) = @$_;
    my ($good, $out) = ims_conf_error($t, conf(block($change, $more)));

    ok(!$good && $out =~ /\[emerg\].*$says.* in \S+:\d+/, $name)
        or diag($out);
}

for (@good) {
    my ($name, $change, $more) = @$_;
    my ($good, $out) = ims_conf_error($t, conf(block($change, $more)));

    ok($good, $name) or diag($out);
}

like(said($t, block({}) . block({})), qr/duplicate issuer "x"/, 'name twice');
like(said($t, block({}) . block({}, '', 'y')),
    qr/issuers "x" and "y" have the same "iss"/, 'iss of two issuers');
like(said($t, 'ims_issuer "" { }'), qr/invalid issuer name ""/, 'empty name');
like(said($t, block({ origin => undef })),
    qr/\[warn\].*issuer "x" has no "origin"/, 'no origin, warned of');

###############################################################################

sub said {
    my ($t, $issuers) = @_;

    return (ims_conf_error($t, conf($issuers)))[1];
}


sub block {
    my ($change, $more, $name) = @_;

    my %l = (%line, %$change);
    my $lines = join ' ', map { "$_ $l{$_};\n" }
        grep { defined $l{$_} } qw/ iss aud alg key pool origin /;

    return 'ims_issuer ' . ($name // 'x') . " {\n $lines " . ($more // '')
        . "\n}\n";
}


sub conf {
    my ($issuers) = @_;

    my $module = ims_module();
    my $globals = $ENV{TEST_NGINX_GLOBALS} // '';

    return "$globals\nload_module $module;\nevents {}\n"
        . "http {\n$issuers\n}\n";
}

###############################################################################
